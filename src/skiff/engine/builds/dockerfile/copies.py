"""COPY and ADD: from their words to sources and a CopyOp. Pure; raises Fault."""

import re
from posixpath import join, normpath

from msgspec import Struct

from skiff.engine.builds.dockerfile import instructions as of
from skiff.engine.builds.dockerfile.errors import Fault
from skiff.engine.builds.dockerfile.expansion import Expansion
from skiff.engine.builds.plan import InlineFile, SourceOp

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_GIT_SCHEME = re.compile(
    r"(git|ssh|git\+https?|git\+ssh|git\+file)://|[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:(?!//)"
)
_GIT_PATH = re.compile(r"https?://[^#?]+\.git(?:[#?].*)?", re.DOTALL)
_SYMBOLIC_MODE = re.compile(r"[ugoa]*([-+=]([rwxXst]*|[ugo]))+(,[ugoa]*([-+=]([rwxXst]*|[ugo]))+)*")


class CopyWords(Struct, frozen=True, kw_only=True):
    """A copy with its variables expanded. local: patterns; remote: whole sources of their own."""

    sources: tuple[str, ...]
    local: tuple[str, ...]
    remote: tuple[SourceOp, ...]
    files: tuple[InlineFile, ...]
    destination: str  # as written
    chown: str
    chmod: str
    exclude: tuple[str, ...]


def copy_words(found: of.Copy, expansion: Expansion) -> CopyWords:
    """The instruction's words, expanded and checked. Fault."""
    sources = tuple(expansion.word(source) for source in found.sources)
    destination = expansion.word(found.destination)
    if not destination:
        raise Fault(f"{found.line.keyword} requires a destination", kind="grammar")
    chmod = expansion.word(found.chmod)
    _check_mode(chmod)
    checksum = expansion.word(found.checksum)
    local = [source for source in sources if not (found.is_add and is_remote(source))]
    if checksum and (local or found.heredocs):
        raise Fault("checksum requires HTTP(S) or Git sources", near="--checksum")
    if checksum and len(sources) > 1:
        raise Fault("checksum can't be specified for multiple sources", near="--checksum")
    remote = [_remote(source, found, checksum) for source in sources if source not in local]
    return CopyWords(
        sources=sources,
        local=tuple(cleaned(source, keeps_pivot=found.parents) for source in local),
        remote=tuple(remote),
        files=tuple(
            InlineFile(name=doc.name, data=expansion.content(doc.text) if doc.expand else doc.text)
            for doc in found.heredocs
        ),
        destination=destination,
        chown=expansion.word(found.chown),
        chmod=chmod,
        exclude=tuple(expansion.word(pattern) for pattern in found.exclude),
    )


def cleaned(source: str, *, keeps_pivot: bool) -> str:
    """A source as a path within its tree; `.` is the tree. `/./` says where --parents begins."""
    if keeps_pivot and "/./" in source:
        head, _, tail = source.partition("/./")
        return f"{normpath(join('/', head)).lstrip('/')}/./{normpath(join('/', tail)).lstrip('/')}".lstrip(
            "/"
        )
    return normpath(join("/", source)).lstrip("/") or "."


def destination_path(text: str, workdir: str) -> str:
    """Absolute; a trailing slash stays where the text means a directory."""
    path = normpath(join("/", workdir, text)).replace("//", "/")
    return path + "/" if is_directory(text) and path != "/" else path


def is_directory(text: str) -> bool:
    return text.endswith(("/", "/.", "/..")) or text in (".", "..")


def is_remote(source: str) -> bool:
    return _is_git(source) or source.startswith(("http://", "https://"))


def _is_git(source: str) -> bool:
    return bool(_GIT_SCHEME.match(source) or _GIT_PATH.fullmatch(source))


def _remote(source: str, found: of.Copy, checksum: str) -> SourceOp:
    if _is_git(source):
        if checksum and not _COMMIT.fullmatch(checksum):
            raise Fault(f'invalid checksum "{checksum}": expected a commit hash', near="--checksum")
        return SourceOp(kind="git", name=source, checksum=checksum, keep_git_dir=bool(found.keep_git_dir))
    if checksum and not _DIGEST.fullmatch(checksum):
        raise Fault(f'invalid checksum "{checksum}": expected algorithm:hex', near="--checksum")
    return SourceOp(kind="http", name=source, checksum=checksum, unpack=bool(found.unpack))


def _check_mode(chmod: str) -> None:
    if not chmod or _SYMBOLIC_MODE.fullmatch(chmod):
        return
    if not re.fullmatch(r"[0-7]{1,5}", chmod) or int(chmod, 8) > 0o7777:
        message = f"invalid chmod parameter: '{chmod}'. it should be octal string and between 0 and 07777"
        raise Fault(message, near="--chmod")


def check_origin(name: str) -> None:
    """What --from may not be. Fault."""
    if "$" in name:
        raise Fault(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG"
            " from global scope as a workaround",
            near=name,
        )
