"""What requests and replies of a registry have in common: how it says no, and when to ask again.

OCI distribution-spec 1.1, § Error Codes.
"""

import random
from collections.abc import AsyncIterator, Mapping

import msgspec
from msgspec import Struct

from skiff.engine.registry.auth import challenges
from skiff.engine.registry.hosts import Endpoint
from skiff.engine.registry.transport import RegistryRequest, RegistryResponse, TryAgain, passing
from skiff.errors import NotFound, SkiffError, Unauthorized, Unavailable

ATTEMPTS = 5
FIRST_PAUSE = 0.25  # seconds; doubles, up to
LONGEST_PAUSE = 8.0
LARGEST_ERROR = 64 << 10  # bytes of an error's body we read
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # may succeed when asked again


class Denied(NotFound):
    """The registry will not show this repository to us; whether it exists it does not say."""


class _Problem(Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(Struct, frozen=True):
    errors: tuple[_Problem, ...] | None = None


def prepared(
    endpoint: Endpoint,
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | AsyncIterator[bytes] | None = None,
) -> RegistryRequest:
    """A request to an endpoint, trusting what the endpoint trusts."""
    return RegistryRequest(
        url=url,
        method=method,
        headers=headers or {},
        body=body,
        verify=endpoint.verify,
        certificates=endpoint.certificates,
    )


async def refusal(response: RegistryResponse, request: RegistryRequest) -> SkiffError:
    """The error that a reply other than success stands for, in the registry's words."""
    try:
        body = await response.read(LARGEST_ERROR)
        problems = msgspec.json.decode(body, type=_Problems).errors or ()
    except (Unavailable, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problems = ()
    text = "; ".join(_phrase(problem) for problem in problems)
    codes = {problem.code for problem in problems}
    status = response.status
    asked = challenges(response.challenges())
    if status == 401 and any(one.parameters.get("error") == "insufficient_scope" for one in asked):
        return Denied("denied: requested access to the resource is denied")  # the Hub's way of saying it
    if status == 401 and "DENIED" not in codes:
        return Unauthorized(text or "unauthorized: authentication required")
    if status in (401, 403) or "DENIED" in codes:
        return Denied(text or "denied: requested access to the resource is denied")
    if status == 404:
        return NotFound(text or "not found")
    where = f'{request.method.title()} "{request.url}": '
    if status == 429:
        text, where = text or "toomanyrequests: too many requests", ""
    text = where + (text or f"unexpected status {status}")
    return passing(text, response) if status in _PASSING else Unavailable(text)


def _phrase(problem: _Problem) -> str:
    return f"{problem.code.lower().replace('_', ' ')}: {problem.message or problem.code.lower()}"


def delay(failures: int, error: SkiffError) -> float:
    """Seconds before the next try, spread so that many clients do not return at once.

    Not before the registry wants us back, if the error says when that is.
    """
    pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1))
    wanted = error.after if isinstance(error, TryAgain) and error.after else 0.0
    return max(pause * random.uniform(0.75, 1.25), wanted * random.uniform(1.0, 1.1))
