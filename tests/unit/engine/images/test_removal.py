"""Which removals are refused, in which words, and what goes along."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from skiff.engine.images.kept import KeptImages
from skiff.engine.images.names import ImageRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.record import ImageUse
from skiff.engine.images.removal import Remover
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.state import MemoryState
from skiff.errors import Conflict, NotFound
from skiff.oci.digest import Digest, ImageID
from skiff.oci.reference import parse

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = ImageID("sha256:" + "ab" * 32)
CHILD = ImageID("sha256:" + "cd" * 32)
MANIFEST = Digest("sha256:" + "0" * 64)
SHORT = ID[7:19]
BOX = "c" * 64


class Room:
    """A Remover over images without layers."""

    def __init__(self, root: Path) -> None:
        state = MemoryState()
        self.names = Names(state)
        self.uses: list[ImageUse] = []
        self.events: list[str] = []
        leases = Leases(state)
        kept = KeptImages(Bin(state, keeping=False), self.names, state, lambda *_: None)
        content = FileContent(str(root / "content"))
        self.remover = Remover(
            self.names,
            OverlaySnapshots(str(root / "snapshots"), state),
            leases,
            lambda id: self.uses if id == ID else [],
            lambda action, actor, attributes: self.events.append(action),
            kept,
            Needs(self.names, content, leases, kept.images, frozenset),
        )

    def image(self, *names: str, id: ImageID = ID, parent: ImageID | None = None) -> None:
        references: list[Any] = [(parse(name), None) for name in names]
        self.names.put(ImageRow(id, (), NOW, parent=parent), references)

    async def remove(self, name: str, *, force: bool = False) -> list[tuple[str, str]]:
        done = await self.remover.remove(name, force=force, prune_parents=True)
        return [("untagged", one.untagged) if one.untagged else ("deleted", str(one.deleted)) for one in done]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


async def test_one_of_several_tags(room: Room) -> None:
    room.image("a:1", "a:2")
    assert await room.remove("a:1") == [("untagged", "a:1")]
    assert room.names.tags(ID) == ["a:2"]
    assert room.events == ["untag"]


async def test_the_last_tag_takes_the_digest_and_the_image_along(room: Room) -> None:
    room.image("a:1", f"a@{MANIFEST}")
    assert await room.remove("a:1") == [
        ("untagged", "a:1"),
        ("untagged", f"a@{MANIFEST}"),
        ("deleted", ID),
    ]
    assert room.events == ["untag", "untag", "delete"]
    with pytest.raises(NotFound):
        await room.remove("a:1")


async def test_an_id_of_two_repositories(room: Room) -> None:
    room.image("a:1", "b:1")
    with pytest.raises(Conflict) as refused:
        await room.remove(SHORT)
    assert str(refused.value) == (
        f"conflict: unable to delete {SHORT} (must be forced) - image is referenced in multiple repositories"
    )
    assert await room.remove(SHORT, force=True) == [
        ("untagged", "a:1"),
        ("untagged", "b:1"),
        ("deleted", ID),
    ]


async def test_a_stopped_container(room: Room) -> None:
    room.image("a:1")
    room.uses = [ImageUse(BOX, False, "a:1")]
    with pytest.raises(Conflict) as refused:
        await room.remove("a:1")
    assert str(refused.value) == (
        'conflict: unable to remove repository reference "a:1" (must force)'
        f" - container {BOX[:12]} is using its referenced image {SHORT}"
    )
    with pytest.raises(Conflict) as refused:
        await room.remove(SHORT)
    assert str(refused.value) == (
        f"conflict: unable to delete {SHORT} (must be forced)"
        f" - image is being used by stopped container {BOX[:12]}"
    )
    assert await room.remove("a:1", force=True) == [("untagged", "a:1")]
    assert room.names.has(ID)  # the container still stands on it


async def test_a_running_container(room: Room) -> None:
    room.image("a:1")
    room.uses = [ImageUse(BOX, True, "a:1")]
    for force in (False, True):
        with pytest.raises(Conflict) as refused:
            await room.remove(SHORT, force=force)
        assert str(refused.value) == (
            f"conflict: unable to delete {SHORT} (cannot be forced)"
            f" - image is being used by running container {BOX[:12]}"
        )


async def test_children_and_parents(room: Room) -> None:
    room.image()
    room.image("child:1", id=CHILD, parent=ID)
    with pytest.raises(Conflict, match=r"cannot be forced.*image has dependent child images"):
        await room.remove(SHORT, force=True)
    assert await room.remove("child:1") == [("untagged", "child:1"), ("deleted", CHILD), ("deleted", ID)]


async def test_prune_spares_what_is_used(room: Room) -> None:
    room.image()
    room.uses = [ImageUse(BOX, False, ID)]
    done, freed = await room.remover.prune([ID])
    assert (done, freed) == ([], 0)
    room.uses = []
    done, _ = await room.remover.prune([ID])
    assert [one.deleted for one in done] == [ID]
