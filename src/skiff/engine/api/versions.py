"""Which API version a request speaks: read from its path, checked against what we serve.

Pure. A version is a pair of ints, (1, 51); a path without a prefix speaks the newest.
"""

from typing import Final

from skiff.errors import InvalidParameter

Version = tuple[int, int]

NEWEST: Final[Version] = (1, 51)
OLDEST: Final[Version] = (1, 24)
API_VERSION: Final = f"{NEWEST[0]}.{NEWEST[1]}"
MIN_API_VERSION: Final = f"{OLDEST[0]}.{OLDEST[1]}"


def split(path: str) -> tuple[str, Version | None]:
    """(path without its version prefix, the version named there).

    `/v1.47/info` → (`/info`, (1, 47)); `/info` → (`/info`, None). A prefix that is no version is left in
    place, so that the path is not found.
    """
    if not path.startswith("/v"):
        return path, None
    end = path.find("/", 2)
    if end < 0:
        return path, None
    major, dot, minor = path[2:end].partition(".")
    if not dot or not (major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        return path, None
    if len(major) > 4 or len(minor) > 4:
        return path, None
    return path[end:], (int(major), int(minor))


def negotiate(asked: Version | None) -> Version:
    """The version to answer in. InvalidParameter, in Docker's words, when it is not ours to speak."""
    if asked is None:
        return NEWEST
    if asked < OLDEST:
        raise InvalidParameter(
            f"client version {asked[0]}.{asked[1]} is too old. Minimum supported API version is "
            f"{MIN_API_VERSION}, please upgrade your client to a newer version"
        )
    if asked > NEWEST:
        raise InvalidParameter(
            f"client version {asked[0]}.{asked[1]} is too new. Maximum supported API version is {API_VERSION}"
        )
    return asked
