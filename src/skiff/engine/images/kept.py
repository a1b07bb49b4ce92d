"""Removed images and names that can come back: their blobs and layers stay where they are.

A removal is one transaction of rows. The rule: what an entry names is a root of the collector, so nothing of
it goes before the entry does.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import msgspec
from msgspec import Struct

from skiff.engine.images.names import ImageRow, NameRow, Names
from skiff.engine.images.record import Publish
from skiff.engine.storage.removed import Bin, Removed
from skiff.engine.storage.state import StateStore
from skiff.errors import Conflict
from skiff.oci.digest import ChainID, ImageID
from skiff.oci.reference import Reference, parse

NOUN = "image"


class KeptImage(Struct, frozen=True):
    """What one removal took: names with their meaning, and images."""

    names: dict[str, NameRow]
    images: tuple[ImageRow, ...]


class KeptImages:
    """A Kept. During a `removal`, the Remover notes each name and image before it goes."""

    noun = NOUN

    def __init__(self, bin: Bin, names: Names, state: StateStore, publish: Publish) -> None:
        self._bin = bin
        self._names = names
        self._state = state
        self._publish = publish
        self._noted_names: dict[str, NameRow] = {}
        self._noted_images: list[ImageRow] = []

    @property
    def keeping(self) -> bool:
        return self._bin.keeping

    def act(self) -> AbstractContextManager[None]:
        return self._bin.act()

    @contextmanager
    def removal(self, name: str) -> Iterator[None]:
        """One removal; while things are kept nothing may be awaited inside that really waits."""
        if not self.keeping:
            yield
            return
        self._noted_names, self._noted_images = {}, []
        with self._state.transaction():
            yield
            if not self._noted_names and not self._noted_images:
                return
            images = self._noted_images
            of = images[0].id if images else next(iter(self._noted_names.values())).image
            record = msgspec.json.encode(KeptImage(self._noted_names, tuple(images)))
            # an entry without images is not what a container, or another name, needs
            key, needs = (of, ()) if images else (f"names of {of}", ((NOUN, str(of)),))
            shown = parse(next(iter(self._noted_names))).familiar if self._noted_names else name
            self._bin.keep(NOUN, key, shown, record, needs)

    def note_name(self, reference: Reference) -> None:
        meaning = self._names.meaning(reference)
        if self.keeping and meaning is not None:
            self._noted_names[str(reference)] = meaning

    def note_image(self, row: ImageRow) -> None:
        if self.keeping:
            self._noted_images.append(row)

    def images(self) -> list[ImageRow]:
        """The images of all entries."""
        return [row for entry in self._bin.of(NOUN) for row in _kept(entry).images]

    def roots(self) -> Sequence[str]:
        """What the collector must leave: images and the manifests of names."""
        found: list[str] = []
        for entry in self._bin.of(NOUN):
            kept = _kept(entry)
            found += [row.id for row in kept.images]
            found += [name.manifest for name in kept.names.values() if name.manifest]
        return found

    async def restore(self, removed: Removed, name: str) -> str:
        kept = _kept(removed)
        names = {parse(name).tagged(): None} if name else {}
        references = {parse(text): row.manifest for text, row in kept.names.items()}
        id = kept.images[0].id if kept.images else next(iter(kept.names.values())).image
        wanted: Mapping[Reference, object] = names or references
        taken = [one.familiar for one in wanted if self._is_taken(one, kept, id)]
        if taken:
            raise Conflict(f"another image is called {', '.join(taken)} now")
        with self._state.transaction():
            for row in kept.images:
                self._names.put(row)
            for reference in wanted:
                meaning = kept.names.get(str(reference))
                row = self._names.image(meaning.image if meaning else id)
                self._names.put(row, [(reference, meaning.manifest if meaning else None)])
        for row in kept.images:
            self._publish("tag", row.id, {"name": name or removed.name})
        return id

    def _is_taken(self, reference: Reference, kept: KeptImage, id: ImageID) -> bool:
        there = self._names.meaning(reference)
        meaning = kept.names.get(str(reference))
        return there is not None and there.image != (meaning.image if meaning else id)

    async def expunge(self, removed: Removed) -> None:
        """Nothing: without the entry nothing leads to the blobs and layers, and the collector takes them."""

    def size(self, removed: Removed) -> int:
        """Of layers that no image still has."""
        used: set[ChainID] = {layer.chain for row in self._names.images() for layer in row.layers}
        own = {layer.chain: layer.size for row in _kept(removed).images for layer in row.layers}
        return sum(size for chain, size in own.items() if chain not in used)

    def settle(self) -> None:
        """Nothing: a removal is one transaction."""


def _kept(removed: Removed) -> KeptImage:
    return msgspec.json.decode(removed.record, type=KeptImage)
