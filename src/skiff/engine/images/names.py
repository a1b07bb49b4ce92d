"""Which images there are and what they are called. The only writer of its tables.

An image id is the digest of its config. A name is a full reference, by tag (`docker.io/library/busybox:1`) or
by digest (`docker.io/library/busybox@sha256:…`): the first are its RepoTags, the second its RepoDigests.
Blocking, but all rows are in memory: only writing touches the disk.
"""

import re
from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from skiff.engine.storage.state import StateStore
from skiff.errors import NotFound
from skiff.oci.digest import ChainID, DiffID, Digest, ImageID
from skiff.oci.manifest import Descriptor
from skiff.oci.reference import Reference, parse

MOST_ORIGINS = 5  # of one blob
_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


class LayerRow(Struct, frozen=True):
    """One layer of an image. size: bytes unpacked. blob: where its compressed bytes are; None: nowhere."""

    chain: ChainID
    diff_id: DiffID
    size: int
    blob: Digest | None = None
    media_type: str = ""
    blob_size: int = 0


class ImageRow(Struct, frozen=True):
    """An image as stored; its config is the blob of that digest.

    parent: the image it was committed or built upon, on this machine. tagged: when it last got a name.
    manifest: the manifest it came as, a blob too; None when it was made here or came without one.
    """

    id: ImageID
    layers: tuple[LayerRow, ...]
    created: datetime
    parent: ImageID | None = None
    tagged: datetime | None = None
    manifest: Digest | None = None

    @property
    def blobs(self) -> set[Digest]:
        """What of it lies in the content store, its config aside."""
        found = {layer.blob for layer in self.layers if layer.blob}
        return found | {self.manifest} if self.manifest else found

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def chain(self) -> ChainID | None:
        return self.layers[-1].chain if self.layers else None


class NameRow(Struct, frozen=True):
    """image: what the name means. manifest: the manifest it was pulled as, when it was.

    said: what its registry had to say about that manifest then: signatures, bills of materials.
    """

    image: ImageID
    manifest: Digest | None = None
    said: tuple[Descriptor, ...] = ()


class Origins(Struct, frozen=True):
    """Repositories that are known to hold a blob, the latest first: `docker.io/library/busybox`."""

    repositories: tuple[str, ...]


class Names:
    """The images and their names."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._image_table = state.table("image", ImageRow)
        self._name_table = state.table("image_name", NameRow)
        self._origin_table = state.table("blob_origin", Origins)
        self._images = {ImageID(id): row for id, row in self._image_table.all()}
        self._names = dict(self._name_table.all())
        self._origins = {Digest(blob): row.repositories for blob, row in self._origin_table.all()}

    def images(self) -> list[ImageRow]:
        return list(self._images.values())

    def image(self, id: ImageID) -> ImageRow:
        """NotFound."""
        try:
            return self._images[id]
        except KeyError:
            raise NotFound(f"No such image: {id}") from None

    def lineage(self, id: ImageID) -> list[ImageID]:
        """The image and those it was made of, one from the other, as far as they are here."""
        found: list[ImageID] = []
        while id in self._images and id not in found:
            found.append(id)
            parent = self._images[id].parent
            if parent is None:
                break
            id = parent
        return found

    def has(self, id: ImageID) -> bool:
        return id in self._images

    def put(
        self,
        row: ImageRow,
        names: Iterable[tuple[Reference, Digest | None]] = (),
        *,
        origin: Reference | None = None,
        said: tuple[Descriptor, ...] = (),
    ) -> None:
        """Store an image and what it is called, at once. A name that meant another image moves.

        origin: a repository that holds the blobs of its layers. said: what is known about the manifests.
        """
        named = [(str(reference), NameRow(row.id, manifest, said)) for reference, manifest in names]
        with self._state.transaction():
            self._image_table.put(row.id, row)
            for name, target in named:
                self._name_table.put(name, target)
            if origin is not None:
                self._note(origin.name, [layer.blob for layer in row.layers if layer.blob])
        self._images[row.id] = row
        self._names.update(named)

    def unname(self, reference: Reference) -> None:
        self._name_table.delete(str(reference))
        self._names.pop(str(reference), None)

    def delete(self, id: ImageID) -> None:
        """Forget an image and all its names."""
        gone = [name for name, row in self._names.items() if row.image == id]
        rest = {blob for row in self._images.values() if row.id != id for blob in row.blobs}
        unknown = [blob for blob in self._origins if blob not in rest]
        with self._state.transaction():
            for name in gone:
                self._name_table.delete(name)
            for blob in unknown:
                self._origin_table.delete(blob)
            self._image_table.delete(id)
        for blob in unknown:
            del self._origins[blob]
        for name in gone:
            del self._names[name]
        self._images.pop(id, None)

    def with_blob(self, old: Digest | None, new: LayerRow) -> None:
        """Layers whose bytes are in the blob old, or of new's content without any, have them in new's."""
        with self._state.transaction():
            for row in list(self._images.values()):
                if any(_moves(one, old, new) for one in row.layers):
                    changed = replace(row, layers=tuple(_moved(one, old, new) for one in row.layers))
                    self._image_table.put(row.id, changed)
                    self._images[row.id] = changed

    def without_blob(self, blob: Digest) -> None:
        """The layers whose bytes are in that blob have none from now on."""
        with self._state.transaction():
            for row in list(self._images.values()):
                if any(one.blob == blob for one in row.layers):
                    bare = (replace(one, blob=None) if one.blob == blob else one for one in row.layers)
                    self._images[row.id] = replace(row, layers=tuple(bare))
                    self._image_table.put(row.id, self._images[row.id])

    def origins(self, blob: Digest) -> tuple[str, ...]:
        """Repositories known to hold that blob, the latest first."""
        return self._origins.get(blob, ())

    def layer_in(self, diff_id: DiffID, others: Iterable[ImageRow] = ()) -> LayerRow | None:
        """A layer of that content that has its bytes here. others: images to look in, too."""
        for row in (*self._images.values(), *others):
            for layer in row.layers:
                if layer.diff_id == diff_id and layer.blob:
                    return layer
        return None

    def _note(self, repository: str, blobs: Iterable[Digest]) -> None:
        for blob in blobs:
            known = self._origins.get(blob, ())
            if repository not in known[:1]:
                kept = (repository, *(one for one in known if one != repository))[:MOST_ORIGINS]
                self._origin_table.put(blob, Origins(kept))
                self._origins[blob] = kept

    def meaning(self, reference: Reference) -> NameRow | None:
        """What exactly this reference means here."""
        return self._names.get(str(reference))

    def references(self, id: ImageID) -> list[Reference]:
        """Everything the image is called: tags first, sorted."""
        found = [parse(name) for name, row in self._names.items() if row.image == id]
        return sorted(found, key=lambda one: (one.tag is None, one.familiar))

    def tags(self, id: ImageID) -> list[str]:
        """RepoTags: `alpine:3.20`."""
        return [one.familiar for one in self.references(id) if one.tag]

    def tagged(self, repository: str) -> list[Reference]:
        """Every tag of a repository (`docker.io/library/busybox`), sorted."""
        found = [parse(name) for name in self._names if name.startswith(f"{repository}:")]
        return sorted((one for one in found if one.tag), key=lambda one: one.tag or "")

    def repo_digests(self, id: ImageID) -> list[str]:
        """RepoDigests: `alpine@sha256:…`."""
        return [one.familiar for one in self.references(id) if one.digest]

    def layer_size(self, chain: ChainID) -> int | None:
        """The unpacked size of a layer that some image has, in bytes."""
        for row in self._images.values():
            for layer in row.layers:
                if layer.chain == chain:
                    return layer.size
        return None

    def manifests(self) -> set[Digest]:
        """The manifests that names lead to."""
        return {row.manifest for row in list(self._names.values()) if row.manifest}

    def find(self, text: str) -> tuple[ImageID, Reference | None]:
        """The image that text means and the name it was found by, None by id. NotFound, InvalidParameter.

        Tried in order: a full id; a name, `latest` understood; a prefix of one id.
        """
        prefix = _PREFIX.fullmatch(text)
        whole = prefix is not None and len(prefix[1]) == 64
        if prefix and whole:
            id = ImageID(f"sha256:{prefix[1]}")
            if id in self._images:
                return id, None
            raise NotFound(f"No such image: {id}")
        reference = None
        if not text.startswith("sha256:"):
            reference = parse(text).tagged()
            row = self._by_name(reference)
            if row is not None:
                return row.image, reference
        if prefix:
            matches = [id for id in self._images if id.startswith(prefix[1], 7)]
            if len(matches) == 1:
                return matches[0], None
        raise NotFound(f"No such image: {reference.familiar if reference else text}")

    def by_prefix(self, text: str) -> bool:
        """Whether text could be the beginning of an image id."""
        return _PREFIX.fullmatch(text) is not None

    def _by_name(self, reference: Reference) -> NameRow | None:
        if reference.digest:  # name:tag@digest means the digest; the tag is a remark
            row = self._names.get(str(reference.with_digest(reference.digest)))
            if row is None:
                id = ImageID(reference.digest)
                is_ours = any(one.name == reference.name for one in self.references(id))
                row = NameRow(id) if id in self._images and is_ours else None
            return row
        return self._names.get(str(reference))


def _moves(layer: LayerRow, old: Digest | None, new: LayerRow) -> bool:
    return layer.diff_id == new.diff_id if layer.blob is None else layer.blob == old


def _moved(layer: LayerRow, old: Digest | None, new: LayerRow) -> LayerRow:
    if not _moves(layer, old, new):
        return layer
    return replace(layer, blob=new.blob, media_type=new.media_type, blob_size=new.blob_size)
