"""skiff cp: files between a container and here, by docker's rules of names.

SRC a file:       DST is a directory → into it; else DST is its new name (its parent must be there)
SRC a directory:  DST exists → into it, or with SRC/. its content; else DST is its new name
"""

from __future__ import annotations

import posix
import stat
import sys

from skiff.cli import human
from skiff.cli.transfer import Transfer, Watched
from skiff.client.connection import EngineError
from skiff.docker.quoting import quoted
from skiff.errors import InvalidParameter, SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session


_IS_DIRECTORY = 1 << 31  # bits of Go's fs.FileMode
_IS_LINK = 1 << 27
_SPECIAL = 1 << 26 | 1 << 21 | 1 << 19  # devices, and what is nothing known
_PIECE = 1 << 20


def copy(session: Session, asked: Parsed) -> int:
    source, target = asked.args
    from_container, from_path = split(source)
    to_container, to_path = split(target)
    if from_container and to_container:
        raise InvalidParameter("copying between containers is not supported")
    counter = Counter(quiet=asked["quiet"], towards="container" if to_container else "host")
    if from_container:
        return _out(session, asked, from_container, from_path, to_path, counter)
    if to_container:
        return _in(session, asked, from_path, to_container, to_path, counter)
    raise InvalidParameter("must specify at least one container source")


def split(text: str) -> tuple[str, str]:
    """(container, path); no container for a path of this machine."""
    container, colon, path = text.partition(":")
    if text.startswith(("/", ".")) or not colon:
        return "", text
    return container, path


class Counter(Transfer):
    """Tells a person at a terminal how much has gone, when it takes long, and at the end."""

    def __init__(self, *, quiet: bool, towards: str) -> None:
        super().__init__(f"Copying to {towards} -", quiet=quiet)

    def done(self, where: str) -> None:
        self.clear()
        if self.shows:
            print(f"Successfully copied {human.size(self.size, 3)} to {where}", file=sys.stderr)


def absolute(path: str) -> str:
    """Cleaned by text; a trailing `/` or `/.` stays, for it has a meaning."""
    whole = path if path.startswith("/") else f"{posix.getcwd()}/{path}"
    parts: list[str] = []
    for part in whole.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    clean = "/" + "/".join(parts)
    end = path.rstrip("/")
    if end == "." or end.endswith("/."):
        return clean.rstrip("/") + "/."
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def parent(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0] or "/"


def plain(path: str) -> str:
    """An absolute path without what it says about its end."""
    return path.removesuffix("/.").rstrip("/") or "/"


def divided(path: str) -> tuple[str, str]:
    """(directory, last name) of an absolute path; of `/a/.` the name is `.`."""
    return (path[:-2] or "/", ".") if path.endswith("/.") else (parent(path), base(path))


class Place:
    """Where something comes from or goes to. path: absolute; means_content: it ends with `/.`."""

    def __init__(self, path: str, *, exists: bool, is_directory: bool) -> None:
        self.path = path
        self.exists = exists
        self.is_directory = is_directory

    @property
    def asserts_directory(self) -> bool:
        return self.path.endswith(("/", "/.")) or not self.path

    @property
    def means_content(self) -> bool:
        return self.path.endswith("/.")


def arranged(source: Place, name: str, target: Place) -> tuple[str, str]:
    """(directory to extract into, what the top is called there: `` for the content alone). InvalidParameter.

    name: what the archive calls its top.
    """
    if target.exists and target.is_directory:
        return target.path.removesuffix(".").rstrip("/") or "/", "" if source.means_content else name
    if target.exists:
        if source.is_directory:
            raise InvalidParameter("cannot copy directory")
    elif not source.is_directory and target.asserts_directory:
        raise InvalidParameter("no such directory")
    return divided(target.path)


def _out(session: Session, asked: Parsed, container: str, path: str, target: str, counter: Counter) -> int:
    if target == "-":
        response = session.engine().get_archive(container, path)
        for data in response.chunks():
            _write(1, data)
        return 0
    to = _landing(absolute(target))
    where = to.path
    engine = session.engine()
    if asked["follow-link"]:
        path = _followed(engine, container, path)
    response = engine.get_archive(container, path)
    found = _decoded(response.headers.get("x-docker-container-path-stat", ""))
    try:
        whence = Place(absolute("/" + path), exists=True, is_directory=bool(found["mode"] & _IS_DIRECTORY))
        asked_for = base(whence.path)
        _check(divided(where)[0])
        directory, name = arranged(whence, "" if asked_for == "." else asked_for, to)
        from skiff.client import tarball

        old = b"" if asked_for in (".", "") else asked_for.encode("utf-8", "surrogateescape")
        tarball.unpack(
            Watched(response, counter),
            directory.encode("utf-8", "surrogateescape"),
            old,
            name.encode("utf-8", "surrogateescape"),
            owners=asked["archive"],
        )
    except OSError as error:
        raise SkiffError(_words(error)) from None
    finally:
        counter.clear()
        response.close()
    counter.done(where)
    return 0


def _landing(path: str) -> Place:
    """Where a path of this machine leads: a link is followed, even to what is not there. InvalidParameter."""
    above = parent(plain(path))
    if _status(above) is None:
        raise InvalidParameter(f"invalid output path: directory {quoted(above)} does not exist")
    try:
        mode = posix.stat(path).st_mode
    except FileNotFoundError:
        return Place(_meant(path), exists=False, is_directory=False)
    except OSError as error:
        raise InvalidParameter(f"stat {path}: {_reason(error)}") from None
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise InvalidParameter(
            f"invalid output path: {quoted(path)} must be a directory or a regular file: got a device"
        )
    if stat.S_ISDIR(mode):
        return Place(path, exists=True, is_directory=True)
    return Place(_meant(path), exists=True, is_directory=False)


def _meant(path: str) -> str:
    """What a link names, be it there or not; any other path as it is."""
    try:
        posix.readlink(path)
    except OSError:
        return path
    return _real(path)


def _check(directory: str) -> None:
    try:
        posix.stat(directory)
    except OSError as error:
        raise InvalidParameter(f"stat {directory}: {_reason(error)}") from None


def _followed(engine: Any, container: str, path: str) -> str:
    """What a link there leads to, else the path."""
    try:
        found = _decoded(engine.path_stat(container, path))
    except EngineError:
        return path  # a HEAD has no words: whoever asks for the archive is told what is wrong
    target: str = found["linkTarget"] if found["mode"] & _IS_LINK else path
    return target


def _in(session: Session, asked: Parsed, path: str, container: str, target: str, counter: Counter) -> int:
    engine = session.engine()
    to, label = _place(session, container, target)
    if path == "-":
        if not to.is_directory:
            raise InvalidParameter(f'destination "{container}:{target}" must be a directory')
        content = counter.through(_stdin())
        engine.put_archive(container, to.path, content, copy_uid_gid=asked["archive"])
        return 0
    where = absolute(path)
    title = base(where)
    source = plain(where)
    is_asserted = source != where  # that it is a directory
    if is_asserted or asked["follow-link"]:
        source = _real(source)
    try:
        is_directory = stat.S_ISDIR(posix.lstat(source).st_mode)
    except OSError as error:
        raise SkiffError(f"lstat {source}: {_reason(error)}") from None
    if is_asserted and not is_directory:
        raise InvalidParameter("not a directory")
    whence = Place(where, exists=True, is_directory=is_directory)
    directory, name = arranged(whence, "" if title == "." else title, to)
    from skiff.client import tarball

    packed = tarball.packed(
        source.encode("utf-8", "surrogateescape"), name.encode("utf-8", "surrogateescape") or b"./"
    )
    try:
        engine.put_archive(container, directory, counter.through(packed), copy_uid_gid=asked["archive"])
    except OSError as error:
        raise SkiffError(_words(error)) from None
    counter.done(f"{container}:{label}")
    return 0


def _place(session: Session, container: str, target: str) -> tuple[Place, str]:
    """Where a path of a container leads, and its name. One that cannot be asked is not there yet."""
    path = absolute("/" + target) if target else ""
    found = _there(session, container, path)
    if found and found["mode"] & _IS_LINK:
        path = found["linkTarget"] + ("/" if path.endswith("/") else "")
        found = _there(session, container, path)
    if found and found["mode"] & _SPECIAL:
        raise InvalidParameter(f'destination "{container}:{target}" must be a directory or regular file')
    is_directory = bool(found and found["mode"] & _IS_DIRECTORY)
    return Place(path, exists=found is not None, is_directory=is_directory), path


def _there(session: Session, container: str, path: str) -> dict[str, Any] | None:
    try:
        return _decoded(session.engine().path_stat(container, path))
    except EngineError:
        return None


def _decoded(stat: str) -> dict[str, Any]:
    import binascii

    from skiff.client import json_text

    try:
        found = json_text.decode(binascii.a2b_base64(stat))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SkiffError("unable to decode container path stat header")
    return found


def _real(path: str) -> str:
    """The path without links."""
    import os.path

    return os.path.realpath(path)


def _status(path: str) -> posix.stat_result | None:
    try:
        return posix.stat(path)
    except OSError:
        return None


def _stdin() -> Iterator[bytes]:
    while data := posix.read(0, _PIECE):
        yield data


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[posix.write(fd, rest) :]


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _words(error: OSError) -> str:
    name = error.filename
    where = name.decode(errors="replace") if isinstance(name, bytes) else name
    return f"{where}: {_reason(error)}" if where else _reason(error)
