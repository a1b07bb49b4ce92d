"""Images: pull, push, rmi, tag, history, save, load, import, prune, commit."""

from __future__ import annotations

import posix
import stat
import sys

from skiff.cli import human
from skiff.cli.each import each
from skiff.cli.filters import DRY_RUN, FORCE, KINDS, PRUNE_FILTER, agreed, wire
from skiff.cli.flags import Command
from skiff.cli.transfer import Transfer
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session
    from skiff.client.connection import Pieces

    Json = dict[str, Any]

PIECE = 256 * 1024


def pull(session: Session, asked: Parsed) -> int:
    from skiff.client.credentials import auth_header
    from skiff.oci.reference import parse

    if asked.args[0].startswith("ssh://"):
        from skiff.cli import carrying

        return carrying.pull(session, asked)
    check_trust(asked)
    name = parse(asked.args[0])
    if asked["all-tags"] and not name.is_bare:
        raise InvalidParameter("tag can't be used with --all-tags/-a")
    quiet = asked["quiet"]
    if not asked["all-tags"] and name.is_bare:
        name = name.tagged()
        if not quiet:
            print(f"Using default tag: {name.tag}", flush=True)
    messages = session.engine().pull_image(
        name.familiar_name,
        "" if asked["all-tags"] else name.identifier,
        platform=asked["platform"] or session.env("DOCKER_DEFAULT_PLATFORM") or None,
        auth=auth_header(session.config(), str(name)),
    )
    shown(messages, quiet=quiet)
    print(name)
    return 0


def shown(messages: Iterator[Json], *, quiet: bool = False) -> list[Json]:
    """Follow what an engine reports; quiet: only fail where it fails. What carries an "aux"."""
    from skiff.cli.progress import follow

    if quiet:
        import io

        return follow(messages, io.StringIO())
    return follow(messages)


def push(session: Session, asked: Parsed) -> int:
    from skiff.client.credentials import auth_header
    from skiff.oci.reference import parse

    if len(asked.args) > 1:
        from skiff.cli import carrying

        return carrying.push(session, asked)
    check_trust(asked)
    name = parse(asked.args[0])
    if asked["all-tags"] and not name.is_bare:
        raise InvalidParameter("tag can't be used with --all-tags/-a")
    if not asked["all-tags"] and name.is_bare:
        name = name.tagged()
        if not asked["quiet"]:
            print(f"Using default tag: {name.tag}", flush=True)
    auth = auth_header(session.config(), str(name)) or "e30="  # {}: the engine wants the header
    tag = "" if asked["all-tags"] else name.identifier
    platform = described(asked["platform"])
    if platform and not asked["quiet"]:
        print(_ONE_PLATFORM, file=sys.stderr, flush=True)
    form = asked["compression"]
    if form not in ("", "gzip", "zstd"):
        raise InvalidParameter(f"invalid compression {form!r}: expected gzip or zstd")
    engine = session.engine()
    pushed = engine.push_image(name.familiar_name, tag, auth=auth, platform=platform, compression=form)
    shown(pushed, quiet=asked["quiet"])
    if asked["quiet"]:
        print(name)
    return 0


_ONE_PLATFORM = """
 Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.
         Other components, like attestations, will not be included.
         To push the complete multi-platform image, remove the --platform flag.
         """


def check_trust(asked: Parsed) -> None:
    """Raises InvalidParameter: signatures of the notary are not looked at."""
    if not asked["disable-content-trust"]:
        raise InvalidParameter("--disable-content-trust=false: content trust is not supported by skiff")


def described(text: str) -> str | None:
    """os[/arch[/variant]] as JSON of an OCI platform, None for "". Raises InvalidParameter."""
    if not text:
        return None
    import posix

    from skiff.client import json_text
    from skiff.oci import platform

    found = platform.parse(text, platform.of_machine(posix.uname().machine))
    described = {"os": found.os, "architecture": found.architecture}
    if found.variant:
        described["variant"] = found.variant
    return json_text.encode(described).decode()


def rmi(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    platforms = [described(text) or "" for text in asked["platform"]]

    def remove(name: str) -> None:
        try:
            done = engine.remove_image(
                name, force=asked["force"], prune=not asked["no-prune"], platforms=platforms
            )
        except EngineError as error:
            if not asked["force"] or error.status != 404:
                raise
            session.err(str(error))  # what is not there is gone, as was asked
            return
        for gone in done:
            print(f"Deleted: {gone['Deleted']}" if gone.get("Deleted") else f"Untagged: {gone['Untagged']}")

    return each(session, asked.args, remove, echo=False)


def tag(session: Session, asked: Parsed) -> int:
    source, target = asked.args
    try:
        repository, name = repository_and_tag(target)
    except InvalidParameter as error:
        raise InvalidParameter(
            f'Error parsing reference: "{target}" is not a valid repository/tag: {error}'
        ) from None
    session.engine().tag_image(source, repository, name)
    return 0


def repository_and_tag(text: str) -> tuple[str, str]:
    """NAME[:TAG] → (name, tag or ""). Raises InvalidParameter."""
    name, colon, tag = text.partition(":")
    if _is_plain(name) and ((tag.isascii() and tag.isalnum() and len(tag) <= 128) or not colon):
        return name, tag
    return _parsed(text)


def _is_plain(name: str) -> bool:
    """Whether it is a familiar name already: letters and digits between slashes. Most are, and so need no
    parser, which takes as long to load as the rest of us.
    """
    parts = name.split("/")
    is_safe = name.isascii() and name == name.lower() and len(name) < 64 and parts[0] != "library"
    return is_safe and all(part.isalnum() for part in parts)


def _parsed(text: str) -> tuple[str, str]:
    from skiff.oci.reference import parse

    name = parse(text)
    if name.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    return name.familiar_name, name.tag or ""


def wanted_platform(asked: Parsed) -> str | None:
    """Raises InvalidParameter."""
    try:
        return described(asked["platform"])
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid platform: {error}") from None


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
    part = f"{path}.{posix.getpid()}.part"
    try:
        with open(part, "wb") as file:
            for data in Transfer(doing).through(chunks):
                file.write(data)
        posix.rename(part, path)
    except OSError as error:
        raise InvalidParameter(f"{wrong}: {error.strerror}: {path}") from None
    finally:
        try:
            posix.unlink(part)
        except FileNotFoundError:
            pass


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
    from skiff.client.connection import FilePart

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


def prune(session: Session, asked: Parsed) -> int:
    what = (
        "all images without at least one container associated to them"
        if asked["all"]
        else "all dangling images"
    )
    dry = asked["dry-run"]
    if not dry and not asked["force"] and not agreed(session, f"WARNING! This will remove {what}."):
        return 0
    filters = wire(asked["filter"])
    filters["dangling"] = ["false" if asked["all"] else "true"]
    engine = session.engine()
    reply = engine.prunable("images", filters) if dry else engine.prune_images(filters)
    sys.stdout.write(pruned_images(reply.get("ImagesDeleted") or [], dry=dry))
    print(f"Total {'reclaimable' if dry else 'reclaimed'} space: {human.size(reply['SpaceReclaimed'])}")
    return 0


def pruned_images(gone: list[Json], *, dry: bool = False) -> str:
    if not gone:
        return ""
    lines = [
        f"untagged: {one['Untagged']}" if one.get("Untagged") else f"deleted: {one['Deleted']}"
        for one in gone
    ]
    return ("Would delete images:\n" if dry else "Deleted Images:\n") + "\n".join(lines) + "\n\n"


def commit(session: Session, asked: Parsed) -> int:
    repository, name = repository_and_tag(asked.args[1]) if len(asked.args) > 1 else ("", "")
    made = session.engine().commit_container(
        asked.args[0],
        {},
        repo=repository or None,
        tag=name or None,
        comment=asked["message"] or None,
        author=asked["author"] or None,
        changes=asked["change"],
        pause=asked["pause"],
    )
    print(made["Id"])
    return 0


TRUST = ("disable-content-trust", "", "bool", True, "Skip image verification")
ONE_PLATFORM = '{} the given {}. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'
_CHANGE = ("change", "c", "list", (), "Apply Dockerfile instruction to the created image")
COMMANDS = {
    "pull": Command(
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        pull,
        (
            ("all-tags", "a", "bool", False, "Download all tagged images in the repository"),
            TRUST,
            ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
            ("quiet", "q", "bool", False, "Suppress verbose output"),
        ),
        least=1,
        most=1,
        aliases=("image pull", "pull"),
        forms=(("ssh://HOST/NAME[:TAG]", "Fetch the image from the skiff of another machine"),),
    ),
    "push": Command(
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        push,
        (
            ("all-tags", "a", "bool", False, "Push all tags of an image to the repository"),
            ("disable-content-trust", "", "bool", True, "Skip image signing"),
            (
                "compression",
                "",
                "string",
                "",
                "Compression of all layers: gzip or zstd (default: as they are)",
            ),
            (
                "platform",
                "",
                "string",
                "",
                "Push a platform-specific manifest as a single-platform image to the registry.\n"
                "Image index won't be pushed, meaning that other manifests, including attestations "
                "won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
            ),
            ("quiet", "q", "bool", False, "Suppress verbose output"),
        ),
        least=1,
        most=1,
        spare="ssh://",
        aliases=("image push", "push"),
        forms=(("NAME[:TAG] ssh://HOST", "Bring the image to the skiff of another machine"),),
    ),
    "rmi": Command(
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        rmi,
        (
            ("force", "f", "bool", False, "Force removal of the image"),
            ("no-prune", "", "bool", False, "Do not delete untagged parents"),
            (
                "platform",
                "",
                "csv",
                (),
                'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., '
                '"linux/amd64")',
            ),
        ),
        least=1,
        aliases=("image rm", "image remove", "rmi"),
    ),
    "tag": Command(
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        tag,
        least=2,
        most=2,
        aliases=("image tag", "tag"),
    ),
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
            _CHANGE,
            ("message", "m", "string", "", "Set commit message for imported image"),
            ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
        ),
        least=1,
        aliases=("image import", "import"),
    ),
    "image prune": Command(
        "[OPTIONS]",
        "Remove unused images",
        prune,
        (
            ("all", "a", "bool", False, "Remove all unused images, not just dangling ones"),
            PRUNE_FILTER,
            FORCE,
            DRY_RUN,
        ),
        most=0,
        kinds=KINDS,
    ),
    "commit": Command(
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        commit,
        (
            ("author", "a", "string", "", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
            _CHANGE,
            ("message", "m", "string", "", "Commit message"),
            ("pause", "p", "bool", True, "Pause container during commit"),
        ),
        least=1,
        most=2,
        aliases=("container commit", "commit"),
    ),
}
