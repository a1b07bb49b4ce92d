from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.memory_content import MemoryContent
from tests.fakes.memory_snapshots import MemorySnapshots

from skiff.engine.storage.gc import Collector, unreachable
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.engine.storage.state import MemoryState
from skiff.oci.digest import ChainID

NODES = st.integers(0, 15)
SETS = st.frozensets(NODES)
EDGES = st.dictionaries(NODES, SETS)


@given(roots=SETS, edges=EDGES, leases=SETS, everything=SETS)
def test_what_is_held_stays_with_all_it_needs(
    roots: frozenset[int],
    edges: dict[int, frozenset[int]],
    leases: frozenset[int],
    everything: frozenset[int],
) -> None:
    garbage = unreachable(roots, edges, leases, everything)
    assert garbage <= everything
    assert not garbage & (roots | leases)
    kept = (everything | roots | leases) - garbage
    held = roots | leases
    for _ in range(16):
        held |= {needed for node in held for needed in edges.get(node, ())}
    assert garbage == everything - held
    assert all(needed not in garbage for node in kept & held for needed in edges.get(node, ()))


@given(roots=SETS, edges=EDGES, leases=SETS, everything=SETS, more=SETS)
def test_more_roots_never_mean_more_garbage(
    roots: frozenset[int],
    edges: dict[int, frozenset[int]],
    leases: frozenset[int],
    everything: frozenset[int],
    more: frozenset[int],
) -> None:
    assert unreachable(roots | more, edges, leases, everything) <= unreachable(
        roots, edges, leases, everything
    )


def test_a_collection_spares_leases_and_containers() -> None:
    content, snapshots, leases = MemoryContent(), MemorySnapshots(), Leases(MemoryState())
    kept, leased, lost = (content.add(data) for data in (b"kept", b"leased", b"lost"))
    base, top, other = ChainID("base"), ChainID("top"), ChainID("other")
    for name, parent in ((base, None), (top, base), (other, base)):
        snapshots.prepare(SnapshotKey("k"), parent)
        snapshots.commit(name, SnapshotKey("k"))
    snapshots.prepare(SnapshotKey("container"), top)
    collector = Collector(
        content, snapshots, leases, roots=lambda: ["image"], edges=lambda: {"image": [kept]}
    )
    with leases.hold(leased):
        swept = collector.collect()
    assert swept.blobs == (lost,)
    assert swept.snapshots == (other,)
    snapshots.remove(SnapshotKey("container"))
    assert set(collector.collect().snapshots) == {base, top}
    assert set(content.blobs) == {kept}
