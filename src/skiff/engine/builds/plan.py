"""A Plan: what a Dockerfile asks to be done, as a DAG of ops. Pure.

    SourceOp ──► ExecOp ──► CopyOp ──► …          each op makes one file system of those it names by index
        └──────► CopyOp (COPY --from=…) ──►       ops stand after all they name: no circles
    MetaOp                                         changes the image's config, no file: nothing stands on it

An op says everything that its result depends on and nothing else (keys.py makes a cache key of it);
the line it came from is in its Step.
"""

from collections.abc import Iterator
from typing import Literal, NewType

from msgspec import Struct

from skiff.oci.image import History, ImageConfig, RunConfig
from skiff.oci.platform import Platform

OpIndex = NewType("OpIndex", int)  # a place in Plan.ops

SourceKind = Literal["scratch", "image", "context", "http", "git"]
MountKind = Literal["bind", "cache", "tmpfs", "secret", "ssh"]


class SourceOp(Struct, frozen=True, kw_only=True, tag="source", omit_defaults=True):
    """A file system from outside.

    kind "image": name is the reference as written, platform the one wanted; `host` is an image too.
    kind "context": name "" is the build context, else a named one.
    kind "http": name is the URL; its tree is the one downloaded file. kind "git": its tree is the work tree.
    """

    kind: SourceKind
    name: str = ""
    platform: Platform | None = None
    checksum: str = ""  # "sha256:…" that a download, or a commit hash that a git source must have
    keep_git_dir: bool = False
    unpack: bool = False  # http: the tree is what the downloaded archive holds


class ExecMount(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One --mount of RUN. target is absolute; source is a path within the file system `origin`.

    bind: origin is set. cache: id names it; a fresh one starts from origin, or empty, with mode and ids.
    secret: the file target, or the variable env, or both. ssh: the agent socket at target.
    """

    kind: MountKind
    target: str = ""
    origin: OpIndex | None = None
    source: str = ""
    read_only: bool = False
    id: str = ""
    sharing: Literal["shared", "private", "locked"] = "shared"
    required: bool = False
    size_bytes: int = 0  # tmpfs; 0: no limit
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    env: str = ""


class InlineFile(Struct, frozen=True, kw_only=True):
    """A file that the Dockerfile itself holds: a here-document. Its mode is 0644 unless said otherwise."""

    name: str  # of a COPY source: its base name; of a script: its absolute path
    data: str
    mode: int = 0o644


class ExecOp(Struct, frozen=True, kw_only=True, tag="exec", omit_defaults=True):
    """RUN. user as in USER, "" is root. env is whole: the image's, then ARGs, in order, names unique."""

    input: OpIndex
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    mounts: tuple[ExecMount, ...] = ()
    scripts: tuple[InlineFile, ...] = ()  # shown to the process for the run only
    network: Literal["default", "none", "host"] = "default"
    security: Literal["sandbox", "insecure"] = "sandbox"
    hidden_env: tuple[str, ...] = ()  # proxies: given to the process, but in no key and no history
    ignore_cache: bool = False  # --no-cache, or a stage named by --no-cache-filter


class CopySource(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """patterns are taken in the tree of origin, relative to its root; inline files have no origin."""

    origin: OpIndex | None = None
    patterns: tuple[str, ...] = ()
    files: tuple[InlineFile, ...] = ()


class CopyOp(Struct, frozen=True, kw_only=True, tag="copy", omit_defaults=True):
    """COPY and ADD. destination is absolute; a trailing slash says that it is a directory.

    link: the result does not depend on what is beneath, only the layer is kept. chown: names are looked up
    in input's /etc/passwd. chmod: octal digits or symbolic (`u=rwX,go=rX`). unpack: whether an archive that
    comes from a context is extracted; never one from an http source. exclude: patterns as in .dockerignore,
    relative to each source's root.
    """

    input: OpIndex
    sources: tuple[CopySource, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool = False
    keep_directory: bool = False  # the destination was written as one: with a slash, or as a dot
    ignore_cache: bool = False


class DirectoryOp(Struct, frozen=True, kw_only=True, tag="directory", omit_defaults=True):
    """WORKDIR: the directory and its missing parents, mode 0755. owner as in USER; "" is root."""

    input: OpIndex
    path: str
    owner: str = ""
    ignore_cache: bool = False


class MetaOp(Struct, frozen=True, kw_only=True, tag="meta", omit_defaults=True):
    """ENV, LABEL, CMD, …: the config only. Its file system is that of input, and so is its key."""

    input: OpIndex
    statement: str  # as history shows it


Op = SourceOp | ExecOp | CopyOp | DirectoryOp | MetaOp


class Step(Struct, frozen=True, kw_only=True):
    """One instruction: how it is shown, what it does, and what the image is like after it.

    text: `RUN make`, as written. history: its entry, without a time. name: `[build 2/4] RUN make`.
    """

    number: int  # from 1; 0 for a trigger of the base image, which Docker does not count
    text: str
    name: str
    line: int
    op: OpIndex
    stage: int
    config: RunConfig
    author: str = ""
    history: tuple[History, ...] = ()


class Stage(Struct, frozen=True, kw_only=True):
    """A FROM and what follows. base: whose history and layers the image begins with; None for scratch."""

    index: int  # in the Dockerfile
    name: str  # lower case; "" when it has none
    platform: Platform
    root: OpIndex  # what FROM named
    output: OpIndex  # its last file system, never a MetaOp
    steps: tuple[Step, ...]
    image: (
        ImageConfig  # of the stage's end: base's history and this one's; rootfs and created are the caller's
    )


class LintWarning(Struct, frozen=True, kw_only=True):
    """What a lint rule found. line: from 1, of the Dockerfile; 0 when none."""

    rule: str
    message: str
    line: int = 0
    description: str = ""
    url: str = ""
    detail: str = ""


class Plan(Struct, frozen=True, kw_only=True):
    """Only the stages that the target needs, in the order of the Dockerfile; the last one is the target.

    arguments: the ARGs before the first FROM, as written: steps that do nothing. total: steps that are
    counted, for `Step 1/5`, with these.
    """

    ops: tuple[Op, ...]
    stages: tuple[Stage, ...]
    total: int
    arguments: tuple[str, ...] = ()
    warnings: tuple[LintWarning, ...] = ()
    unused_build_args: tuple[str, ...] = ()

    @property
    def target(self) -> Stage:
        return self.stages[-1]

    @property
    def steps(self) -> Iterator[Step]:
        """All of them, stage by stage."""
        for stage in self.stages:
            yield from stage.steps


class BaseImage(Struct, frozen=True):
    """An image whose config the frontend must know: the reference as written, and the platform wanted."""

    ref: str
    platform: Platform


class Missing(Struct, frozen=True):
    """The plan cannot be made before these configs are known.

    headings: for each image what is told of the FROM that asks for it, and of what stands before it.
    """

    images: tuple[BaseImage, ...]
    headings: tuple[tuple[str, ...], ...]


def inputs(op: Op) -> tuple[OpIndex, ...]:
    """Every op that this one stands on, each once: first the file system it changes, then others it reads."""
    match op:
        case SourceOp():
            return ()
        case ExecOp():
            found = [op.input, *(mount.origin for mount in op.mounts if mount.origin is not None)]
        case CopyOp():
            found = [op.input, *(source.origin for source in op.sources if source.origin is not None)]
        case _:
            found = [op.input]
    return tuple(dict.fromkeys(found))
