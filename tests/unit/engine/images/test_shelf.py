"""What others pushed: remembered across restarts, kept while a tag leads to it, let go after a day."""

from skiff.engine.images import shelf
from skiff.engine.images.shelf import KEPT_SECONDS, Shelf
from skiff.engine.storage.gc import unreachable
from skiff.engine.storage.state import MemoryState
from skiff.oci import digest as digests
from skiff.oci import manifest as manifests
from skiff.oci.digest import Digest
from skiff.oci.manifest import Descriptor, Index

WHERE = "localhost:5000/team/app"
CONFIG, LAYER = digests.of(b"config"), digests.of(b"layer")


def stored(
    kept: Shelf, name: str, tag: str = "", *, subject: Digest | None = None, came: float = 0.0
) -> Digest:
    pointer = Descriptor(manifests.OCI_MANIFEST, subject, 1) if subject else None
    made = manifests.manifest(
        Descriptor(manifests.OCI_CONFIG, CONFIG, 6), [Descriptor(manifests.OCI_LAYER_GZIP, LAYER, 5)]
    )
    document = manifests.Manifest(
        schema_version=2, config=made.config, layers=made.layers, subject=pointer, annotations={"n": name}
    )
    data = manifests.encode(document)
    digest = digests.of(data)
    kept.put(WHERE, digest, shelf.row(document, manifests.OCI_MANIFEST, len(data), came), tag)
    return digest


def test_rows_outlive_the_engine() -> None:
    state = MemoryState()
    digest = stored(Shelf(state), "one", "1.0")
    again = Shelf(state)
    assert again.tag(WHERE, "1.0") == digest
    assert again.tags(WHERE) == ["1.0"]
    found = again.get(WHERE, digest)
    assert found is not None
    assert found.needs == (CONFIG, LAYER)
    assert again.repositories() == {WHERE}
    again.forget(WHERE, digest)
    assert Shelf(state).repositories() == set()


def test_what_no_tag_leads_to_is_let_go_after_a_day() -> None:
    kept = Shelf(MemoryState())
    tagged = stored(kept, "tagged", "latest")
    said = stored(kept, "said of it", subject=tagged)
    alone = stored(kept, "alone")
    list_of = Index(
        schema_version=2, manifests=(Descriptor(manifests.OCI_MANIFEST, stored(kept, "inside"), 1),)
    )
    index = digests.of(b"index")
    kept.put(WHERE, index, shelf.row(list_of, manifests.OCI_INDEX, 1, 0.0), "many")
    inside = list_of.manifests[0].digest
    everything = [tagged, said, alone, inside, index, CONFIG, LAYER]
    day = KEPT_SECONDS + 1
    assert unreachable(kept.roots(day), kept.edges(), [], everything) == {alone}
    assert unreachable(kept.roots(day - 2), kept.edges(), [], everything) == set()
    kept.untag(WHERE, "latest")
    assert unreachable(kept.roots(day), kept.edges(), [], everything) == {alone, tagged, said}
    kept.settle([tagged, said, inside, index])
    assert kept.get(WHERE, alone) is None
    assert kept.get(WHERE, index) is not None


def test_referrers_and_foreign_layers() -> None:
    kept = Shelf(MemoryState())
    subject = digests.of(b"not here yet")
    said = stored(kept, "said", subject=subject)
    assert [digest for digest, _ in kept.referrers(WHERE, subject)] == [said]
    assert list(kept.referrers("elsewhere", subject)) == []
    foreign = Descriptor(manifests.DOCKER_FOREIGN_GZIP, LAYER, 5, urls=("https://example.org/layer",))
    document = manifests.manifest(Descriptor(manifests.DOCKER_CONFIG, CONFIG, 6), [foreign])
    assert shelf.row(document, manifests.DOCKER_MANIFEST, 1, 0.0).needs == (CONFIG,)
