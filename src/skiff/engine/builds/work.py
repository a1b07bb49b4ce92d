"""COPY, ADD and WORKDIR as work on a snapshot's directory: who owns what, where it goes, what is unpacked."""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence

from skiff.docker import dockerignore
from skiff.engine.builds.copying import Copier, NotADirectory, Target, chmod, made_directories
from skiff.engine.builds.filesystem import FileSystem
from skiff.engine.builds.plan import CopyOp, CopySource, DirectoryOp, Op, OpIndex
from skiff.engine.builds.scratch import discard
from skiff.engine.builds.selection import Excluded, Node, Selected, select
from skiff.engine.builds.tree import Tree, seen
from skiff.engine.storage import compression
from skiff.engine.storage.extractor import Extractor, Job
from skiff.errors import HostileArchive, InvalidParameter
from skiff.linux import users

_BLOCK = 512
Stack = Callable[[FileSystem], Sequence[str]]


class Work:
    """extractor: for archives that ADD unpacks, in scratch."""

    def __init__(self, extractor: Extractor, scratch: str) -> None:
        self._extractor = extractor
        self._scratch = scratch

    def excluding(self, excluded: Sequence[str]) -> Excluded | None:
        """Which names --exclude leaves out."""
        if not excluded:
            return None
        return dockerignore.Patterns(excluded).excludes

    def do(
        self,
        op: Op,
        upper: str,
        below: Sequence[str],
        standing: Mapping[OpIndex, FileSystem],
        stack: Stack,
        epoch_ns: int,
    ) -> None:
        """Change upper, which stands on below. Blocking. InvalidParameter."""
        with seen(below) as base:
            target = Target(upper, below, base, epoch_ns)
            if isinstance(op, DirectoryOp):
                try:
                    target.ensure(op.path, _owner(op.owner, base) if op.owner else (0, 0))
                except NotADirectory:
                    raise InvalidParameter(f"Cannot mkdir: {op.path} is not a directory") from None
            elif isinstance(op, CopyOp):
                self._copy(op, target, base, standing, stack)

    def _copy(
        self, op: CopyOp, target: Target, base: Tree, standing: Mapping[OpIndex, FileSystem], stack: Stack
    ) -> None:
        owner = _owner(op.chown, base) if op.chown else None
        mode = chmod(op.chmod)
        for source in op.sources:
            for file in source.files:
                into = op.keep_directory or op.destination.endswith("/")
                path = f"{op.destination.rstrip('/')}/{file.name}" if into else op.destination
                bits = mode.of(file.mode, is_directory=False) if mode else file.mode
                target.inline(path, file.data.encode(), bits, made_directories(owner, mode))
            if source.origin is None:
                continue
            files = standing[source.origin]
            with seen(stack(files)) as tree:
                # what came from outside is root's, what another stage made stays its owner's
                kept = owner if owner is not None else ((0, 0) if files.directory else None)
                copier = Copier(target, tree, owner=kept, mode=mode, may_link=bool(files.directory))
                self._selections(op, source, tree, copier, target, owner)

    def _selections(
        self,
        op: CopyOp,
        source: CopySource,
        tree: Tree,
        copier: Copier,
        target: Target,
        owner: tuple[int, int] | None,
    ) -> None:
        chosen = select(tree, source.patterns, self.excluding(op.exclude), parents=op.parents)
        into = op.keep_directory or op.destination.endswith("/")
        if len(chosen) > 1 and not into and not op.parents and not target.is_directory(op.destination):
            raise InvalidParameter(
                "When using COPY with more than one source file, the destination must be a directory and "
                "end with a /"
            )
        for one in chosen:
            if op.unpack and one.top.is_file and _is_archive(tree, one.top):
                self._unpack(op, tree, one, target, owner)
            else:
                copier.copy(one, op.destination, into=into, parents=op.parents)

    def _unpack(
        self, op: CopyOp, tree: Tree, one: Selected, target: Target, owner: tuple[int, int] | None
    ) -> None:
        place = f"{self._scratch}/unpack-{secrets.token_hex(6)}"
        os.mkdir(place, 0o755)
        try:
            archive = tree.open(one.top.path, os.O_RDONLY)
            try:
                self._extractor.run(Job(place, "none", digests=True), archive)
            finally:
                os.close(archive)
            with seen([place]) as unpacked:
                copier = Copier(target, unpacked, owner=owner, mode=chmod(op.chmod), may_link=True)
                for chosen in select(unpacked, ("/",)):
                    copier.copy(chosen, op.destination, into=True, parents=False)
        finally:
            discard(place)


def _owner(text: str, base: Tree) -> tuple[int, int]:
    """Numbers of `user`, `user:group`; a number alone is the group's too."""
    if text.isdigit():
        text = f"{text}:{text}"
    passwd, group = base.read("/etc/passwd"), base.read("/etc/group")
    failed = "unable to convert uid/gid chown string to host mapping: can't find"
    name, _, named_group = text.partition(":")
    try:
        uid = users.resolve(name, passwd).uid
    except InvalidParameter:
        raise InvalidParameter(f"{failed} uid for user {name}: no such user: {name}") from None
    try:
        return uid, users.resolve(text, passwd, group).gid
    except InvalidParameter:
        message = f"{failed} gid for group {named_group}: no such group: {named_group}"
        raise InvalidParameter(message) from None


def _is_archive(tree: Tree, node: Node) -> bool:
    """Whether it is a tar, perhaps compressed: its first header's checksum tells."""
    if node.status.st_size < 18:
        return False
    fd = tree.open(node.path, os.O_RDONLY)
    block = b""
    try:
        for chunk in compression.decompressed(lambda n: os.read(fd, n)):
            block += chunk
            if len(block) >= _BLOCK:
                break
    except HostileArchive:
        return False
    finally:
        os.close(fd)
    if len(block) < _BLOCK:
        return False
    try:
        stated = int(block[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    return stated == sum(block[:148]) + 8 * 32 + sum(block[156:_BLOCK])
