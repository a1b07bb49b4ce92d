"""From an error to an HTTP answer. The only place where a status number meets an error class."""

import logging
from typing import Final

from aiohttp import web

from skiff import errors
from skiff.engine.api.call import encode

log = logging.getLogger(__name__)

# The first class that fits decides: subclasses stand before their parents.
STATUS: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.InvalidParameter, 400),
    (errors.NoCredentials, 500),
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.NotModified, 304),
    (errors.Unavailable, 503),
    (errors.NotImplementedHere, 501),
)


def status_of(error: BaseException) -> int:
    """The HTTP status of an error; 500 for whatever is not a SkiffError of a known kind."""
    for kind, status in STATUS:
        if isinstance(error, kind):
            return status
    return 500


def sentence(error: BaseException) -> str:
    """What the user reads. A bug of ours is named by its class when it has no words of its own."""
    return str(error) or type(error).__name__


def reply(error: BaseException) -> web.Response:
    """Docker's error body, `{"message": …}`, and the error's `detail` if it has one.

    Statuses of 500 are logged, bugs with their traceback.
    """
    status = status_of(error)
    if status == 304:
        return web.Response(status=304)
    if status == 500:
        # what has words for the user is no bug, so its way through the code says nothing
        bug = None if isinstance(error, errors.SkiffError) else error
        log.error("request failed: %s", sentence(error), exc_info=bug)
    return message(status, sentence(error), getattr(error, "detail", ""))


def message(status: int, text: str, detail: str = "") -> web.Response:
    """A reply of Docker's error shape."""
    body = encode({"message": text} | ({"detail": detail} if detail else {}))
    return web.Response(status=status, body=body, content_type="application/json")
