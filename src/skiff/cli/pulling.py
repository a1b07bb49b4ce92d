"""Pull an image on the way, for a command that needs it: what happens is shown on stderr."""

from __future__ import annotations

import sys

from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.session import Session


class PullFailed(SkiffError):
    """The engine gave up; its own words."""


def with_tag(image: str) -> str:
    """Busybox → busybox:latest; what has a tag or digest stays."""
    name = image.rpartition("/")[2]
    return image if ":" in name or "@" in name else f"{image}:latest"


def split_tag(image: str) -> tuple[str, str]:
    """busybox:1 → (busybox, 1); name@sha256:… → (name, sha256:…)."""
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    folder, slash, last = image.rpartition("/")
    name, _, tag = last.partition(":")
    return folder + slash + name, tag or "latest"


def pull(session: Session, image: str, *, platform: str = "", quiet: bool = False) -> None:
    """Raises PullFailed, EngineError."""
    import io

    from skiff.cli.progress import Refused, follow
    from skiff.client.credentials import auth_header

    name, tag = split_tag(image)
    auth = auth_header(session.config(), image)
    messages = session.engine().pull_image(name, tag, platform=platform or None, auth=auth)
    try:
        follow(messages, io.StringIO() if quiet else sys.stderr)
    except Refused as error:
        raise PullFailed(f"Error response from daemon: {error}") from None
