"""What every Snapshotter does. Subclass and give a `snapshots` fixture."""

import os

import pytest

from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import AlreadyExists, Conflict, NotFound
from skiff.oci.digest import ChainID

KEY = SnapshotKey("container")
BASE = ChainID("sha256:" + "a" * 64)
TOP = ChainID("sha256:" + "b" * 64)


def write(snapshots: Snapshotter, key: SnapshotKey, name: str) -> None:
    with open(f"{snapshots.directory(key)}/{name}", "w") as file:
        file.write(name)


class SnapshotterContract:
    def test_prepare_gives_the_mounts_of_the_root(self, snapshots: Snapshotter) -> None:
        mounts = snapshots.prepare(KEY, None)
        assert mounts == snapshots.mounts(KEY)
        assert mounts[0].destination == "/"
        assert snapshots.info(KEY).kind == "active"

    def test_commit_renames(self, snapshots: Snapshotter) -> None:
        snapshots.prepare(KEY, None)
        write(snapshots, KEY, "file")
        snapshots.commit(BASE, KEY)
        with pytest.raises(NotFound):
            snapshots.mounts(KEY)
        info = snapshots.info(BASE)
        assert (info.kind, info.parent) == ("committed", None)
        assert os.path.exists(f"{snapshots.directory(BASE)}/file")

    def test_chains(self, snapshots: Snapshotter) -> None:
        snapshots.prepare(KEY, None)
        snapshots.commit(BASE, KEY)
        snapshots.prepare(KEY, BASE)
        snapshots.commit(TOP, KEY)
        assert snapshots.info(TOP).parent == BASE
        snapshots.prepare(KEY, TOP)
        snapshots.view(SnapshotKey("look"), TOP)
        assert {(info.id, info.kind) for info in snapshots.walk()} == {
            (BASE, "committed"),
            (TOP, "committed"),
            (KEY, "active"),
            ("look", "view"),
        }

    def test_names_are_unique(self, snapshots: Snapshotter) -> None:
        snapshots.prepare(KEY, None)
        with pytest.raises(AlreadyExists):
            snapshots.prepare(KEY, None)
        with pytest.raises(AlreadyExists):
            snapshots.view(KEY, None)
        snapshots.commit(BASE, KEY)
        snapshots.prepare(KEY, None)
        with pytest.raises(AlreadyExists):
            snapshots.commit(BASE, KEY)
        assert snapshots.info(KEY).kind == "active"

    def test_parents_must_be_committed(self, snapshots: Snapshotter) -> None:
        with pytest.raises(NotFound):
            snapshots.prepare(KEY, BASE)
        snapshots.prepare(KEY, None)
        with pytest.raises(Conflict):
            snapshots.prepare(SnapshotKey("other"), ChainID(KEY))

    def test_views_cannot_be_committed(self, snapshots: Snapshotter) -> None:
        snapshots.view(KEY, None)
        with pytest.raises(Conflict):
            snapshots.commit(BASE, KEY)

    def test_parents_cannot_be_removed(self, snapshots: Snapshotter) -> None:
        snapshots.prepare(KEY, None)
        snapshots.commit(BASE, KEY)
        snapshots.prepare(KEY, BASE)
        with pytest.raises(Conflict):
            snapshots.remove(BASE)
        snapshots.remove(KEY)
        snapshots.remove(BASE)
        assert list(snapshots.walk()) == []
        with pytest.raises(NotFound):
            snapshots.remove(BASE)
        snapshots.sweep()
        snapshots.sweep()

    def test_usage_grows(self, snapshots: Snapshotter) -> None:
        snapshots.prepare(KEY, None)
        before = snapshots.usage(KEY)
        write(snapshots, KEY, "file")
        after = snapshots.usage(KEY)
        assert after.inodes == before.inodes + 1
        assert after.bytes > before.bytes

    def test_unknown_snapshots(self, snapshots: Snapshotter) -> None:
        for act in (snapshots.mounts, snapshots.remove, snapshots.usage, snapshots.info, snapshots.directory):
            with pytest.raises(NotFound):
                act(KEY)

    def test_the_parent_can_come_late_where_promised(self, snapshots: Snapshotter) -> None:
        if not snapshots.stacks_late:
            return
        snapshots.prepare(KEY, None)
        snapshots.commit(BASE, KEY)
        snapshots.prepare(KEY, None)
        snapshots.commit(TOP, KEY, parent=BASE)
        assert snapshots.info(TOP).parent == BASE

    def test_reconcile_keeps_what_is_whole(self, snapshots: Snapshotter) -> None:
        snapshots.prepare(KEY, None)
        snapshots.commit(BASE, KEY)
        snapshots.prepare(KEY, BASE)
        before = sorted(info.id for info in snapshots.walk())
        snapshots.reconcile()
        assert sorted(info.id for info in snapshots.walk()) == before
