"""The cache of steps: what it finds again, what it spares, what a prune takes."""

from pathlib import Path

import pytest
from tests.fakes.memory_snapshots import MemorySnapshots

from skiff.docker.filters import parse
from skiff.engine.builds.cache import PRUNE_FILTERS, Cache
from skiff.engine.builds.keys import Part
from skiff.engine.builds.layering import Layering
from skiff.engine.images.names import LayerRow
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.state import MemoryState
from skiff.oci.digest import ChainID, Digest

PARTS = (Part("the command", "make"),)


class World:
    def __init__(self) -> None:
        self.state = MemoryState()
        self.snapshots = MemorySnapshots()
        self.leases = Leases(self.state)
        self.layering = Layering(self.snapshots, self.leases)
        self.images: set[ChainID] = set()
        self.now = 1000
        self.cache = self.boot()

    def boot(self) -> Cache:
        return Cache(self.state, self.layering, self.leases, lambda: self.images, lambda: self.now)

    def layer(self, content: str, parent: ChainID | None = None) -> LayerRow:
        key = self.layering.begin(parent)
        Path(self.snapshots.directory(key), "f").write_text(content)
        with self.layering.lease() as lease:
            made = self.layering.commit(key, parent, 0, lease)
        assert made is not None
        return made

    def put(self, name: str, layer: LayerRow | None, parent: ChainID | None = None) -> Digest:
        key = Digest("sha256:" + name * 64)
        self.now += 1
        self.cache.put(key, layer, parent, PARTS, text=f"RUN {name}", place=f"app {name}", above="")
        return key


@pytest.fixture
def world() -> World:
    return World()


def test_an_entry_is_found_on_its_parent_only(world: World) -> None:
    base = world.layer("base")
    key = world.put("a", world.layer("a", base.chain), base.chain)
    assert world.cache.get(key, base.chain) is not None
    assert world.cache.get(key, None) is None


def test_the_next_engine_finds_it_and_holds_its_layer(world: World) -> None:
    layer = world.layer("a")
    key = world.put("a", layer)
    world.leases.release_all()
    again = world.boot()
    assert again.get(key, None) is not None
    assert layer.chain in world.leases.held()


def test_a_layer_that_is_gone_is_no_entry(world: World) -> None:
    layer = world.layer("a")
    key = world.put("a", layer)
    world.snapshots.remove(layer.chain)
    assert world.cache.get(key, None) is None
    assert world.cache.usage() == []


def test_the_same_files_are_the_same_layer(world: World) -> None:
    assert world.layer("same").chain == world.layer("same").chain
    assert [info.kind for info in world.snapshots.walk()] == ["committed"]


def test_prune_takes_layers_later_ones_first(world: World) -> None:
    base = world.layer("base")
    above = world.layer("above", base.chain)
    world.put("a", base)
    world.put("b", above, base.chain)
    would = world.cache.prune(everything=True, dry_run=True)
    assert len(list(world.snapshots.walk())) == 2
    gone, freed = world.cache.prune(everything=True)
    assert (len(gone), freed) == (2, 9)
    assert would == (gone, freed)
    assert list(world.snapshots.walk()) == []
    assert world.leases.held() == frozenset()


def test_prune_spares_what_an_image_stands_on(world: World) -> None:
    shared, own = world.layer("shared"), world.layer("own")
    world.put("a", shared)
    world.put("b", own)
    world.images = {shared.chain}
    assert len(world.cache.prune()[0]) == 1
    assert [info.id for info in world.snapshots.walk()] == [shared.chain]
    assert world.cache.prune(everything=True) == (["a" * 25], 0)
    assert [info.id for info in world.snapshots.walk()] == [shared.chain]


def test_prune_stops_at_the_budget_and_takes_the_longest_unused(world: World) -> None:
    world.put("a", world.layer("12345"))
    world.put("b", world.layer("67890"))
    assert world.cache.prune(everything=True, keep_bytes=5)[0] == ["a" * 25]


def test_prune_filters(world: World) -> None:
    world.put("a", world.layer("a"))
    filters = parse('{"description":["RUN b"]}', PRUNE_FILTERS)
    assert world.cache.prune(filters, everything=True)[0] == []
    filters = parse('{"id":["aaaa"]}', PRUNE_FILTERS)
    assert len(world.cache.prune(filters, everything=True)[0]) == 1


def test_why_looks_at_the_same_place_first(world: World) -> None:
    key = world.put("a", None)
    other = Digest("sha256:" + "c" * 64)
    assert world.cache.earlier(text="RUN else", place="app a", besides=other) == PARTS
    assert world.cache.earlier(text="RUN a", place="elsewhere", besides=other) == PARTS
    assert world.cache.earlier(text="RUN a", place="app a", besides=key) is None
