"""Images as archives, to and from files and the standard streams: save, load, import."""

from __future__ import annotations

import posix
import stat
import sys

from skiff.cli.flags import Command
from skiff.cli.image import CHANGE, ONE_PLATFORM, repository_and_tag, shown, wanted_platform
from skiff.cli.transfer import Transfer
from skiff.client import atomic_file
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session
    from skiff.client.connection import Pieces

PIECE = 256 * 1024


def save(session: Session, asked: Parsed) -> int:
    saved = session.engine().save_images(asked.args, platform=wanted_platform(asked))
    write_stream(saved.chunks(), asked["output"], "failed to save image", doing="Saving")
    return 0


def write_stream(chunks: Iterator[bytes], path: str, wrong: str, *, doing: str) -> None:
    """To a file that appears whole, or to stdout, which must not be a terminal. Raises InvalidParameter."""
    if not path:
        if sys.stdout.isatty():
            raise InvalidParameter(
                f"{wrong}: cowardly refusing to save to a terminal. Use the -o flag or redirect"
            )
        for data in chunks:
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    folder = path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
    try:
        posix.stat(folder)
    except OSError as error:
        why = "no such file or directory" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise InvalidParameter(f"{wrong}: invalid output path: stat {folder}: {why}") from None
    if path.endswith("/") or _is_directory(path):
        raise InvalidParameter(f"{wrong}: cannot write to a directory")
    try:
        atomic_file.write(path, Transfer(doing).through(chunks))
    except OSError as error:
        raise InvalidParameter(f"{wrong}: {error.strerror}: {path}") from None


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(posix.stat(path).st_mode)
    except OSError:
        return False


def read_pieces(path: str) -> Pieces:
    """A file's bytes, or stdin's for "" and "-"."""
    if path in ("", "-"):
        yield from _pieces(0)
        return
    with open(path, "rb", buffering=0) as file:
        yield from _pieces(file.fileno())


def _pieces(fd: int) -> Pieces:
    from skiff.client.bulk import FilePart

    status = posix.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        left = status.st_size - posix.lseek(fd, 0, 1)
        if left > 0:
            yield FilePart(fd, left)
    while data := posix.read(fd, PIECE):
        yield data


def _sent(path: str, *, quiet: bool = False) -> Pieces:
    """A file's bytes on their way to the engine; of stdin's nobody knows how many there will be."""
    total = posix.stat(path).st_size if path not in ("", "-") else 0
    return Transfer("Sending", total=total, quiet=quiet).through(read_pieces(path))


def _must_open(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from None


def load(session: Session, asked: Parsed) -> int:
    path = asked["input"]
    if path:
        _must_open(path)
    elif sys.stdin.isatty():
        raise InvalidParameter("requested load from stdin, but stdin is empty")
    quiet = asked["quiet"] or not sys.stdout.isatty()
    sent = _sent(path, quiet=quiet)
    shown(session.engine().load_images(sent, quiet=quiet, platform=wanted_platform(asked)))
    return 0


def import_image(session: Session, asked: Parsed) -> int:
    source = asked.args[0]
    repository, name = repository_and_tag(asked.args[1]) if len(asked.args) > 1 else ("", "")
    query = {
        "fromSrc": "-",
        "repo": repository or None,
        "tag": name or None,
        "message": asked["message"] or None,
        "changes": asked["change"],
        "platform": asked["platform"] or None,
    }
    if source.startswith(("http://", "https://")):
        query["fromSrc"] = source
        pieces: Pieces = iter(())
    else:
        if source != "-":
            _must_open(source)
        pieces = _sent(source)
    shown(session.engine().import_image(pieces, **query))
    return 0


COMMANDS = {
    "save": Command(
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        save,
        (
            ("output", "o", "string", "", "Write to a file, instead of STDOUT"),
            ("platform", "", "string", "", ONE_PLATFORM.format("Save only", "platform variant")),
        ),
        least=1,
        aliases=("image save", "save"),
    ),
    "load": Command(
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        load,
        (
            ("input", "i", "string", "", "Read from tar archive file, instead of STDIN"),
            ("platform", "", "string", "", ONE_PLATFORM.format("Load only", "platform variant")),
            ("quiet", "q", "bool", False, "Suppress the load output"),
        ),
        most=0,
        aliases=("image load", "load"),
    ),
    "import": Command(
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        import_image,
        (
            CHANGE,
            ("message", "m", "string", "", "Set commit message for imported image"),
            ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
        ),
        least=1,
        aliases=("image import", "import"),
    ),
}
