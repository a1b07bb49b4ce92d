"""After any sequence of operations and kills: nothing unreachable stays, nothing reachable goes.

The real records, volumes, images, branches, trash and collector on a real (unmounted) overlay snapshotter; an
engine that is killed does nothing any more, and the next one starts from what is on disk.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.fakes.engine_containers import Room

from skiff.docker.filters import Filters
from skiff.docker.volume import Volume
from skiff.engine.containers.branches import Branches
from skiff.engine.images.kept import KeptImages
from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.record import ImageUse
from skiff.engine.images.removal import Remover
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.engine.storage.state import MemoryState, MemoryTable
from skiff.engine.system.garbage import Garbage, Source
from skiff.engine.system.trash import Trash
from skiff.engine.volumes.branches import VolumeBranches
from skiff.engine.volumes.kept import KeptVolumes
from skiff.engine.volumes.local import LocalDriver
from skiff.engine.volumes.service import Volumes
from skiff.errors import SkiffError
from skiff.oci.digest import ChainID, DiffID, Digest, ImageID, of
from skiff.oci.reference import parse
from skiff.paths import DataPaths

NAMES = ("one", "two")
KILLS = st.one_of(st.none(), st.integers(0, 12))


class Killed(BaseException):
    """The engine is gone: whatever it still tries to do does not happen."""


class Fuse:
    """Counts what changes the disk; burnt out, it lets nothing happen any more."""

    def __init__(self) -> None:
        self.left: int | None = None

    def burn(self) -> None:
        if self.left is None:
            return
        if self.left <= 0:
            raise Killed
        self.left -= 1


class FusedTable(MemoryTable[Any]):
    fuse: Fuse

    def put(self, id: str, record: Any) -> None:
        self.fuse.burn()
        super().put(id, record)

    def delete(self, id: str) -> None:
        self.fuse.burn()
        super().delete(id)


class FusedState(MemoryState):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse

    def table(self, kind: str, of: type[Any]) -> MemoryTable[Any]:
        super().table(kind, of)
        table = FusedTable(self._tables, self._lock, kind)
        table.fuse = self._fuse
        return table


class FusedSnapshots(OverlaySnapshots):
    fuse: Fuse

    def _retire(self, number: int) -> None:
        self.fuse.burn()
        super()._retire(number)

    def _allocate(self) -> int:
        self.fuse.burn()
        return super()._allocate()


class FusedContent(FileContent):
    fuse: Fuse

    def delete(self, digest: Digest) -> None:
        self.fuse.burn()
        super().delete(digest)


class FusedDriver(LocalDriver):
    fuse: Fuse

    def retire(self, volume: Volume, key: str) -> None:
        self.fuse.burn()
        super().retire(volume, key)
        self.fuse.burn()

    def revive(self, volume: Volume, key: str) -> None:
        self.fuse.burn()
        super().revive(volume, key)
        self.fuse.burn()

    def expunge(self, key: str) -> None:
        self.fuse.burn()
        super().expunge(key)
        self.fuse.burn()


class World:
    """One machine; `boot` starts an engine on it."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="skiff-garbage-"))
        self.data = DataPaths(str(self.root / "data"))
        os.makedirs(self.root / "data")
        self.fuse = Fuse()
        self.state = FusedState(self.fuse)
        self.loop = asyncio.new_event_loop()
        self.boot()

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.root)

    def boot(self) -> None:
        self.fuse.left = None
        state = self.state
        self.leases = Leases(state)
        self.leases.release_all()
        self.snapshots = FusedSnapshots(str(self.data.snapshots), state)
        self.snapshots.fuse = self.fuse
        self.snapshots.reconcile()
        self.content = FusedContent(str(self.data.content))
        self.content.fuse = self.fuse
        self.room = Room(self.root, state=state, snapshots=self.snapshots, keeping=True)
        self.bin = self.room.bin
        self.containers = self.room.containers
        driver = FusedDriver(self.data)
        driver.fuse = self.fuse
        self.volumes = Volumes(state, [driver], users=lambda name: (), publish=lambda *_: None, bin=self.bin)
        self.names = Names(state)
        self.kept_images = KeptImages(self.bin, self.names, state, lambda *_: None)
        self.remover = Remover(
            self.names,
            self.snapshots,
            self.leases,
            self.uses,
            lambda *_: None,
            self.kept_images,
            Needs(self.names, self.content, self.leases, self.kept_images.images, frozenset),
        )
        self.branches = Branches(
            state=state,
            lifecycle=self.containers.lifecycle,
            snapshots=self.snapshots,
            cloner=VolumeBranches(self.volumes, still=self.still, running=lambda name: ()),
            leases=self.leases,
            announce=self.containers.announce,
        )
        self.containers.kept.forgotten = self.branches.forget
        layers = Layers(self.snapshots)
        layers.recover()
        self.garbage = Garbage(
            self.content,
            self.snapshots,
            self.leases,
            layers,
            self.content.abandoned,
            (Source(self.image_roots, self.image_edges), Source(self.branches.roots)),
        )
        self.trash = Trash(
            self.bin,
            (self.containers.kept, KeptVolumes(self.bin, self.volumes, {"local": driver}), self.kept_images),
            root=str(self.root),
            grace=timedelta(hours=1),
            share=0.5,
            collect=self.garbage.collect,
        )
        self.trash.settle()
        self.loop.run_until_complete(self.containers.supervisor.reconcile())

    def still(self, volume: str) -> Any:
        raise AssertionError("nothing runs here")

    def uses(self, id: ImageID) -> list[ImageUse]:
        return [ImageUse(c.id, False, "x") for c in self.containers.records if c.image == id]

    def rows(self) -> list[ImageRow]:
        return [*self.names.images(), *self.kept_images.images()]

    def image_roots(self) -> list[str]:
        return [*(row.id for row in self.names.images()), *self.kept_images.roots()]

    def image_edges(self) -> dict[str, list[str]]:
        return {
            row.id: [one for layer in row.layers for one in (layer.chain, layer.blob) if one]
            for row in self.rows()
        }

    def pull(self, name: str, content: str) -> None:
        """An image of two layers, of which every image has the first."""
        layers, parent = [], None
        with self.leases.hold() as lease:
            for text in ("base", content):
                chain = ChainID(of(f"{parent} {text}".encode()))
                blob = of(text.encode())
                lease.add(blob, chain)
                self.ingest(text.encode())
                if chain not in {info.id for info in self.snapshots.walk()}:
                    key = SnapshotKey(f"extract-{os.urandom(4).hex()}")
                    self.snapshots.prepare(key, None)
                    self.snapshots.commit(chain, key, parent=parent)
                layers.append(LayerRow(chain, DiffID(blob), 4, blob))
                parent = chain
            id = ImageID(of(f"config of {content}".encode()))
            lease.add(id)
            self.ingest(f"config of {content}".encode())
            row = ImageRow(id, tuple(layers), datetime.now(UTC))
            self.names.put(row, [(parse(name).tagged(), None)])

    def ingest(self, data: bytes) -> None:
        self.fuse.burn()
        ingest = self.content.ingest(of(data))
        if ingest.offset == 0:
            ingest.write(data)
        ingest.commit()


class Garden(RuleBasedStateMachine):
    """lost: what people deleted for good, or may have: nobody expects it back."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.expected_containers: dict[str, str] = {}  # id → what its marker says
        self.expected_volumes: dict[str, str] = {}  # content → name at first

    def teardown(self) -> None:
        self.world.close()

    def do(self, kill: int | None, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The result, or None when it was refused or the engine was killed; then it was booted again."""

        async def started() -> Any:
            return await work()

        self.world.fuse.left = kill
        try:
            result = self.world.loop.run_until_complete(started())
        except SkiffError:
            result = None
        except Killed:
            self.world.boot()
            return None
        if self.world.fuse.left is not None and self.world.fuse.left <= 0:
            self.world.boot()  # it died of old age
        self.world.fuse.left = None
        return result

    @rule(name=st.sampled_from(NAMES), content=st.sampled_from("abc"), kill=KILLS)
    def pull(self, name: str, content: str, kill: int | None) -> None:
        async def work() -> None:
            self.world.pull(name, content)

        self.do(kill, work)

    @rule(name=st.sampled_from(NAMES), kill=KILLS)
    def remove_image(self, name: str, kill: int | None) -> None:
        self.do(kill, lambda: self.world.remover.remove(name, force=True, prune_parents=True))

    @rule(name=st.sampled_from(NAMES), kill=KILLS)
    def create(self, name: str, kill: int | None) -> None:
        id = self.do(kill, lambda: self.world.room.create("true", name=name))
        if id is not None:
            marker = Path(self.world.snapshots.directory(SnapshotKey(id)), id)
            marker.write_text(name)
            self.expected_containers[id] = name

    @rule(name=st.sampled_from(NAMES), kill=KILLS)
    def remove_container(self, name: str, kill: int | None) -> None:
        self.do(kill, lambda: self.world.containers.lifecycle.remove(name, force=True))

    @rule(kill=KILLS)
    def prune_containers(self, kill: int | None) -> None:
        self.do(kill, lambda: self.world.containers.lifecycle.prune(Filters()))

    @rule(name=st.sampled_from(NAMES), label=st.just("s1"), kill=KILLS)
    def snapshot(self, name: str, label: str, kill: int | None) -> None:
        self.do(kill, lambda: self.world.branches.snapshot(name, label))

    @rule(name=st.sampled_from(NAMES), kill=KILLS)
    def rollback(self, name: str, kill: int | None) -> None:
        async def work() -> None:
            if not self.world.branches.list(name):
                await self.world.branches.snapshot(name, "s1")
            await self.world.branches.rollback(name, "s1")

        self.do(kill, work)

    @rule(name=st.sampled_from(NAMES), new=st.sampled_from(NAMES), kill=KILLS)
    def fork(self, name: str, new: str, kill: int | None) -> None:
        self.do(kill, lambda: self.world.branches.fork(name, new))

    @rule(name=st.sampled_from(NAMES), content=st.text("abcdef", min_size=8, max_size=8), kill=KILLS)
    def make_volume(self, name: str, content: str, kill: int | None) -> None:
        if name in [volume.name for volume in self.world.volumes.all()] or content in self.expected_volumes:
            return
        made = self.do(kill, lambda: self.world.volumes.ensure(name))
        if made is not None:
            Path(made.mountpoint, "content").write_text(content)
            self.expected_volumes[content] = name

    @rule(name=st.sampled_from(NAMES), kill=KILLS)
    def remove_volume(self, name: str, kill: int | None) -> None:
        self.do(kill, lambda: self.world.volumes.remove(name))

    @rule(count=st.integers(1, 3), kill=KILLS)
    def undo(self, count: int, kill: int | None) -> None:
        self.do(kill, lambda: self.world.trash.undo(count))

    @precondition(lambda self: len(self.world.bin) > 0)
    @rule(data=st.data(), kill=KILLS)
    def empty_one(self, data: st.DataObject, kill: int | None) -> None:
        entry = data.draw(st.sampled_from(list(self.world.bin)))
        self.expected_containers.pop(entry.key, None)
        if entry.noun == "volume":
            file = Path(str(self.world.data.removed_volumes), entry.key, "_data", "content")
            self.expected_volumes.pop(file.read_text() if file.exists() else "", None)
        self.do(kill, lambda: self.world.trash.empty([entry.id]))

    @rule(kill=KILLS)
    def collect(self, kill: int | None) -> None:
        self.do(kill, lambda: asyncio.to_thread(self.world.garbage.collect))

    @invariant()
    def nothing_reachable_is_gone(self) -> None:
        world = self.world
        there = {info.id for info in world.snapshots.walk()}
        for row in world.rows():
            assert world.content.info(Digest(row.id))
            for layer in row.layers:
                assert layer.chain in there
                assert layer.blob and world.content.info(layer.blob)
        assert set(world.branches.roots()) <= there
        alive = {container.id for container in world.containers.records}
        kept = {entry.key for entry in world.bin.of("container")}
        assert alive | kept <= there
        for id in self.expected_containers:
            assert id in alive | kept
            key = SnapshotKey(id)
            tree = [world.snapshots.directory(key), *world.snapshots.lowers(key)]
            branches = [world.snapshots.directory(ChainID(one)) for one in world.branches.roots()]
            assert any(os.path.exists(f"{layer}/{id}") for layer in (*tree, *branches))
        live = [Path(volume.mountpoint) for volume in world.volumes.all()]
        removed = [Path(str(world.data.removed_volumes), e.key, "_data") for e in world.bin.of("volume")]
        contents = {
            (place / "content").read_text() for place in (*live, *removed) if (place / "content").exists()
        }
        assert contents >= set(self.expected_volumes)

    @invariant()
    def nothing_unreachable_stays(self) -> None:
        world = self.world
        world.garbage.collect()
        world.containers.trash.sweep()
        rows = world.rows()
        blobs = {row.id for row in rows} | {layer.blob for row in rows for layer in row.layers}
        assert {blob.digest for blob in world.content.walk()} == blobs
        infos = {info.id: info for info in world.snapshots.walk()}
        alive = {container.id for container in world.containers.records}
        kept = {entry.key for entry in world.bin.of("container")}
        assert {id for id, info in infos.items() if info.kind == "active"} == alive | kept
        wanted: set[str] = set()
        pending = [*alive, *kept, *world.branches.roots(), *(r.layers[-1].chain for r in rows)]
        while pending:
            one = pending.pop()
            if one not in wanted:
                wanted.add(one)
                parent = infos[one].parent
                pending += [parent] if parent else []
        assert set(infos) == wanted
        numbers = {name for name in os.listdir(str(world.data.snapshots)) if name.isdigit()}
        assert len(numbers) == len(infos)
        removed = str(world.data.removed_volumes)
        there = set(os.listdir(removed)) if os.path.isdir(removed) else set()
        assert there == {entry.key for entry in world.bin.of("volume")}
        assert not world.leases.held()


Garden.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestGarden = Garden.TestCase
