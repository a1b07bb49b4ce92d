"""Has this step been done before? The cache key of an op, and the sentence that tells two keys apart. Pure.

A key is a digest of named parts. The parts are kept beside the result, so that a step which runs again can
say which of them is new.
"""

import hashlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from skiff.engine.builds.plan import (
    CopyOp,
    DirectoryOp,
    ExecMount,
    ExecOp,
    MetaOp,
    Op,
    OpIndex,
    SourceOp,
    inputs,
)
from skiff.oci.digest import Digest

PREVIOUS = "the step before"
_LONGEST = 60  # characters of a value in a sentence


class Part(Struct, frozen=True):
    """One thing that went into a key: what it is called in a sentence, and its value."""

    name: str
    value: str


def cache_key(op: Op, input_keys: Sequence[Digest], content: Sequence[Part] = ()) -> Digest:
    """The name of the op's result: equal keys, equal results. See key_parts."""
    return key_of(key_parts(op, input_keys, content), op, input_keys)


def key_of(parts: Sequence[Part], op: Op, input_keys: Sequence[Digest]) -> Digest:
    """The digest of parts; a MetaOp changes no file, so its result is its input's."""
    if isinstance(op, MetaOp):
        return input_keys[0]
    data = msgspec.json.encode([(part.name, part.value) for part in parts])
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def needs_content(op: Op) -> tuple[OpIndex, ...]:
    """The origins of which only the files taken count: their content is wanted in place of their keys."""
    match op:
        case CopyOp():
            return tuple(dict.fromkeys(s.origin for s in op.sources if s.origin is not None))
        case ExecOp():
            binds = (m.origin for m in op.mounts if m.kind == "bind" and m.origin is not None)
            return tuple(dict.fromkeys(origin for origin in binds if origin != op.input))
        case _:
            return ()


def key_parts(op: Op, input_keys: Sequence[Digest], content: Sequence[Part] = ()) -> tuple[Part, ...]:
    """What goes into an op's key. input_keys: one for each of inputs(op), in that order.

    content: what the op really takes from needs_content(op): a digest of the tree, or one part for each file,
    named `file app.py`. When given, the keys of those origins are left out. For a SourceOp it is the digest
    it resolved to; without one its name counts. A linked copy does not depend on what is beneath.
    """
    keys = dict(zip(inputs(op), input_keys, strict=True))
    read = needs_content(op) if content else ()
    base = None if isinstance(op, SourceOp) else op.input
    parts = [Part("kind", type(op).__name__)]
    if base is not None and not (isinstance(op, CopyOp) and op.link):
        parts.append(Part(PREVIOUS, keys[base]))
    for origin, key in keys.items():
        if origin != base and origin not in read:
            parts.append(Part("the stage or image it copies from", key))
    return (*parts, *_own_parts(op), *content)


def _own_parts(op: Op) -> list[Part]:
    match op:
        case SourceOp():
            return _filled(
                ("the source", f"{op.kind}:{op.name}"),
                ("the platform", str(op.platform or "")),
                ("the checksum", op.checksum),
                ("--keep-git-dir", "true" if op.keep_git_dir else ""),
            )
        case ExecOp():
            return _exec_parts(op)
        case CopyOp():
            return _copy_parts(op)
        case DirectoryOp():
            return _filled(("the directory", op.path), ("the user", op.owner))
        case MetaOp():
            return [Part("the instruction", op.statement)]


def _exec_parts(op: ExecOp) -> list[Part]:
    parts = [Part("the command", msgspec.json.encode(op.args).decode())]
    for entry in op.env:
        name, _, value = entry.partition("=")
        parts.append(Part(f"the variable {name}", value))
    parts += _filled(("the user", op.user), ("the working directory", op.cwd))
    parts += [Part(f"the here-document {file.name}", file.data) for file in op.scripts]
    parts += [Part(f"the mount {mount.target or mount.id}", _mount_text(mount)) for mount in op.mounts]
    network = "" if op.network == "default" else op.network
    security = "" if op.security == "sandbox" else op.security
    return parts + _filled(("--network", network), ("--security", security))


def _mount_text(mount: ExecMount) -> str:
    """Without the index of its origin: that moves with unrelated stages, and its key stands elsewhere.

    The value of a secret is no part of a key, as Docker has it: a renewed token would rebuild everything.
    """
    fields = msgspec.to_builtins(mount)
    fields.pop("origin", None)
    return msgspec.json.encode(fields).decode()


def _copy_parts(op: CopyOp) -> list[Part]:
    parts = _filled(
        ("the destination", op.destination),
        ("--chown", op.chown),
        ("--chmod", op.chmod),
        ("--link", "true" if op.link else ""),
        ("--parents", "true" if op.parents else ""),
        ("--exclude", "\n".join(op.exclude)),
        ("unpacking", "true" if op.unpack else ""),
    )
    for source in op.sources:
        parts += [Part("the source", pattern) for pattern in source.patterns]
        parts += [
            Part(f"the here-document {file.name}", f"{file.mode:o}\n{file.data}") for file in source.files
        ]
    return parts


def _filled(*pairs: tuple[str, str]) -> list[Part]:
    return [Part(name, value) for name, value in pairs if value]


def difference(before: Sequence[Part], after: Sequence[Part]) -> str:
    """Why the second key is not the first, in one sentence; "" when they are equal.

    `the variable VERSION changed from 1 to 2`, `file app.py changed`, `the command changed: …`.
    """
    old, new = _grouped(before), _grouped(after)
    sentences = []
    for name in dict.fromkeys([*new, *old]):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if was is None:
            sentences.append(f"{name} is new{_shown(name, now)}")
        elif now is None:
            sentences.append(f"{name} is gone")
        else:
            sentences.append(f"{name} changed{_change(name, was, now)}")
    if len(sentences) > 1:  # what came before says least when something of its own changed too
        sentences = [sentence for sentence in sentences if not sentence.startswith(PREVIOUS)]
    if len(sentences) > 3:
        sentences = [*sentences[:3], f"{len(sentences) - 3} more changed"]
    return ", ".join(sentences)


def _grouped(parts: Sequence[Part]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for part in parts:
        groups.setdefault(part.name, []).append(part.value)
    return groups


def _is_opaque(name: str, value: str) -> bool:
    return value.startswith(("sha256:", "sha512:")) or name.startswith("file ") or "\n" in value


def _shown(name: str, values: list[str] | None) -> str:
    value = ", ".join(values or ())
    return "" if not value or _is_opaque(name, value) else f": {_short(value)}"


def _change(name: str, was: list[str], now: list[str]) -> str:
    before, after = ", ".join(was), ", ".join(now)
    if _is_opaque(name, before) or _is_opaque(name, after):
        return ""
    return f" from {_short(before)} to {_short(after)}"


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
