"""Pull an image and show it as plain lines on one descriptor, for a command that needs it on its way."""

from __future__ import annotations

import posix

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


def pull(session: Session, image: str, *, platform: str = "", quiet: bool = False, fd: int = 2) -> None:
    """Raises PullFailed, EngineError."""
    from skiff.client.credentials import auth_header

    name, tag = split_tag(image)
    auth = auth_header(session.config(), image)
    said: dict[str, str] = {}
    for line in session.engine().pull_image(name, tag, platform=platform or None, auth=auth):
        if "error" in line:
            raise PullFailed(f"Error response from daemon: {line['error']}")
        status, id = line.get("status", ""), line.get("id", "")
        if quiet or not status or said.get(id) == status or (id and line.get("progressDetail")):
            continue
        if id:
            said[id] = status
        posix.write(fd, (f"{id}: {status}\n" if id else f"{status}\n").encode())
