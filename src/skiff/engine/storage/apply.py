"""Layer tars into snapshots: extraction in a confined helper process, then the commit in order.

The engine never unpacks an archive itself: it has threads and sees the whole file system. A helper process
(extract.py), started with the first layer and gone after a while without work, forks a confined child per
layer.

    draft = layers.extract(blob)                 side by side, in threads
    layers.commit(draft, name, parent)           one after the other, from the bottom up

A layer is extracted without its parents wherever that comes to the same. Two things are made up for at the
commit: directories that only lower layers describe get their attributes from there, and a layer with names
that lead through lower layers (a hard link, a symbolic link on the way) is extracted again on the merged
view.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from typing import BinaryIO

from msgspec import Struct

from skiff.engine.storage.beneath import Found, copy_attributes, look
from skiff.engine.storage.extractor import Extractor, Job, NeedsMerge, Result
from skiff.engine.storage.overlay import escape
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import AlreadyExists, DigestMismatch, NotFound
from skiff.oci.digest import ChainID, DiffID

DRAFT = "extract-"  # how the keys of drafts begin; the boot removes those that a crash left


class Applied(Struct, frozen=True):
    """What an extraction came to. size: bytes of its files, and of the targets of its symbolic links."""

    diff_id: DiffID
    size: int
    entries: int


Stored = Callable[[], tuple[int, DiffID]]
"""A descriptor of the tar's bytes, the reader's to close, and what they came to."""


class Draft(Struct, frozen=True):
    """A layer that is extracted but not committed. Hand it to `commit` or `discard`, once."""

    key: SnapshotKey
    applied: Applied
    blob: int  # a descriptor of our own, for a second extraction
    implied: tuple[str, ...]  # directories that no entry described
    whole: bool  # False: nothing is extracted yet, it takes the parents' files


class Layers:
    """Extracts layers into a snapshotter. Blocking; every method may run in a thread."""

    def __init__(self, snapshots: Snapshotter, *, max_bytes: int | None = None, noting: bool = False) -> None:
        """max_bytes: refuse a layer that unpacks to more. noting: keep what tars are written again by."""
        self._snapshots = snapshots
        self._extractor = Extractor()
        self._max_bytes = max_bytes
        self.noting = noting

    def warm(self) -> None:
        """Start the helper ahead of the first layer, without waiting for it."""
        self._extractor.start()

    def extract(
        self, blob: BinaryIO | int, stored: Stored | None = None, *, keeps_blob: bool = False
    ) -> Draft:
        """Extract a layer: gzip, zstd or plain tar, told apart by its first bytes. The caller closes blob.

        keeps_blob: the layer's bytes stay as they came, so nothing is noted for it.

        stored: blob is a plain tar, perhaps a pipe, whose bytes somebody else keeps and takes the digest of;
        it is called once they have all been read. Raises HostileArchive and leaves nothing behind.
        """
        # The offset is shared: whoever holds blob sees in it how far the extraction has come.
        own = os.dup(blob if isinstance(blob, int) else blob.fileno())
        key = SnapshotKey(DRAFT + secrets.token_hex(8))
        try:
            result, whole = Result(), False
            if self._snapshots.stacks_late:
                self._snapshots.prepare(key, None)
                with contextlib.suppress(NeedsMerge):
                    directory, limit = self._snapshots.directory(key), self._max_bytes
                    job = Job(directory, "overlay", max_bytes=limit, hashed=stored is None)
                    with self._notes(key, wanted=self.noting and not keeps_blob) as notes:
                        result, whole = self._extractor.run(job, own, notes), True
            diff_id = ""
            if stored is not None:
                os.close(own)
                own = -1
                own, diff_id = stored()
            if not whole:
                result = self._extractor.run(Job(None), own)
            applied = Applied(DiffID(diff_id or result.diff_id), result.size, result.entries)
            return Draft(key, applied, own, tuple(result.implied), whole)
        except BaseException:
            if own >= 0:
                os.close(own)
            self._drop(key)
            raise

    @contextlib.contextmanager
    def _notes(self, key: SnapshotKey, *, wanted: bool) -> Iterator[int | None]:
        """A file beside the draft's directory, when notes are wanted."""
        if not wanted:
            yield None
            return
        fd = os.open(self._snapshots.notes(key), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)

    def verify(self, draft: Draft, expected: DiffID) -> None:
        """DigestMismatch, and the draft is discarded, when it is not the layer expected."""
        try:
            _verify(draft.applied.diff_id, expected)
        except DigestMismatch:
            self.discard(draft)
            raise

    def commit(self, draft: Draft, name: ChainID, parent: ChainID | None) -> None:
        """Make the draft a committed snapshot on parent, which must be committed.

        When name is committed already, by another pull, the draft is discarded and that one stays.
        """
        try:
            late = draft.whole and self._settle(draft, parent)
            if not late:
                self._merge(draft, parent)
            self._snapshots.commit(name, draft.key, parent=parent if late else None)
        except AlreadyExists:
            self._drop(draft.key)
        except BaseException:
            self._drop(draft.key)
            raise
        finally:
            os.close(draft.blob)

    def discard(self, draft: Draft) -> None:
        os.close(draft.blob)
        self._drop(draft.key)

    def recover(self) -> None:
        """At boot: drafts of an engine that is gone are removed."""
        for info in list(self._snapshots.walk()):
            if info.id.startswith(DRAFT):
                self._snapshots.remove(SnapshotKey(info.id))

    def close(self) -> None:
        """Let the helper go."""
        self._extractor.close()

    def _settle(self, draft: Draft, parent: ChainID | None) -> bool:
        """Give implied directories the attributes of the parents' ones; False when the layer must be
        merged.
        """
        if parent is None:
            return True
        stack = [self._snapshots.directory(parent), *self._snapshots.lowers(parent)]
        own = self._snapshots.directory(draft.key)
        for path in draft.implied:
            found = look(stack, path)
            if found == Found.ELSEWHERE:
                return False
            if isinstance(found, str):
                copy_attributes(stack, path, own)
        return True

    def _merge(self, draft: Draft, parent: ChainID | None) -> None:
        """Extract onto the parents' files."""
        if draft.whole or self._snapshots.stacks_late:
            self._drop(draft.key)
        mounts = self._snapshots.prepare(draft.key, parent)
        directory = self._snapshots.directory(draft.key)
        root = os.path.dirname(os.path.dirname(directory))
        options = None
        if mounts[0].type == "overlay":
            # names relative to the snapshots' root: mount(2) takes one page of options
            options = ",".join(mounts[0].options).replace(f"{escape(root)}/", "")
        job = Job(directory, "delete", max_bytes=self._max_bytes, overlay=options, base=root)
        result = self._extractor.run(job, draft.blob)
        _verify(result.diff_id, draft.applied.diff_id)

    def _drop(self, key: SnapshotKey) -> None:
        with contextlib.suppress(NotFound):
            self._snapshots.remove(key)


def _verify(diff_id: str, expected: DiffID) -> None:
    if diff_id != expected:
        raise DigestMismatch(f"the layer's content has digest {diff_id}: expected {expected}")
