"""The local store as a registry: repositories, tags, manifests, referrers. Blobs on their way in: uploads.py.

A repository's path is the name of an image as people write it: `busybox`, `team/app`, `example.org/app`.

    tag ──► the image of that name: the manifest it came with, or one of our making
        └─► else what was pushed and is no image for this machine (shelf.py)
    push of a tag ──► its blobs are here? ─► kept as it came ─► layers extracted: an image like any other

OCI distribution-spec 1.1.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from skiff.engine.images import documents, shelf
from skiff.engine.images.assemble import Assembler, store
from skiff.engine.images.documents import Document
from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.packing import Packer
from skiff.engine.images.record import Publish
from skiff.engine.images.shelf import Shelf
from skiff.engine.images.uploads import Refusal, Uploads, holds
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.errors import Conflict, DigestMismatch, InvalidParameter, NotFound, NotImplementedHere
from skiff.oci import digest as digests
from skiff.oci import manifest as manifests
from skiff.oci.digest import Digest, ImageID
from skiff.oci.image import LARGEST
from skiff.oci.image import parse as parse_config
from skiff.oci.manifest import CONFIGS, INDEXES, LAYERS, MANIFESTS, Descriptor, Index, Manifest
from skiff.oci.platform import Platform
from skiff.oci.reference import Reference, parse, parse_tag

log = logging.getLogger(__name__)

REFRESH_SECONDS = 3600.0  # what is made here and asked for is noted again after that
Remove = Callable[[str], Awaitable[object]]
"""Remove the image of that name. Conflict."""


class Hosting:
    def __init__(
        self,
        *,
        names: Names,
        content: ContentStore,
        leases: Leases,
        packer: Packer,
        assembler: Assembler,
        kept: Shelf,
        needs: Needs,
        platform: Platform,
        publish: Publish,
        remove: Remove,
    ) -> None:
        """platform: which image of an index becomes one of this machine."""
        self._names = names
        self._content = content
        self._leases = leases
        self._packer = packer
        self._assembler = assembler
        self._shelf = kept
        self._needs = needs
        self._platform = platform
        self._publish = publish
        self._remove = remove
        self.uploads = Uploads(content, leases)

    # -- what there is

    def repositories(self) -> list[str]:
        """The paths of all repositories, sorted. Names with a port have no path to be asked for."""
        found = {one.name for row in self._names.images() for one in self._names.references(row.id)}
        paths = {parse(name).familiar_name for name in found | self._shelf.repositories()}
        return sorted(path for path in paths if ":" not in path)

    def tags(self, path: str) -> list[str]:
        """In lexical order. Refusal when there is no such repository."""
        name = repository(path).name
        found = {one.tag or "" for one in self._names.tagged(name)} | set(self._shelf.tags(name))
        if not found and name not in self._shelf.repositories():
            raise Refusal("NAME_UNKNOWN", f"repository name not known to registry: {path}")
        return sorted(found)

    async def manifest(self, path: str, identifier: str) -> Document:
        """Of a tag or digest. Refusal."""
        where = repository(path)
        if ":" in identifier:
            found = self._by_digest(where, _digest(identifier))
        else:
            found = await self._by_tag(where, identifier)
        if found is None:
            raise Refusal("MANIFEST_UNKNOWN", f"manifest unknown: {path} has no {identifier}")
        return found

    def blob(self, path: str, digest: str) -> tuple[str, int]:
        """The file of a blob and its size in bytes. Refusal."""
        repository(path)
        try:
            where = self._content.path(_digest(digest))
            return where, self._content.info(Digest(digest)).size
        except NotFound as error:
            raise Refusal("BLOB_UNKNOWN", f"blob unknown to registry: {digest}") from error
        except InvalidParameter as error:  # sha512
            raise Refusal("DIGEST_INVALID", str(error)) from error

    def referrers(self, path: str, subject: str) -> list[Descriptor]:
        """What says something about the manifest: signatures, bills of materials. By digest, in order."""
        name = repository(path).name
        found = [
            Descriptor(
                row.media_type,
                digest,
                row.size,
                annotations=row.annotations,
                artifact_type=row.artifact or None,
            )
            for digest, row in self._shelf.referrers(name, _digest(subject))
            if holds(self._content, digest)
        ]
        return sorted(found, key=lambda one: one.digest)

    def said_of(self, id: ImageID) -> list[Descriptor]:
        """What is known about an image's manifests: from where it was pulled, and pushed here. By digest."""
        found: dict[str, Descriptor] = {}
        for reference in self._names.references(id):
            meaning = self._names.meaning(reference)
            if meaning is not None:
                found |= {one.digest: one for one in meaning.said}
            if meaning is not None and meaning.manifest is not None:
                pushed = self.referrers(reference.familiar_name, meaning.manifest)
                found |= {one.digest: one for one in pushed}
        return [found[digest] for digest in sorted(found)]

    # -- what comes in

    def mount(self, path: str, digest: str) -> bool:
        """Whether the blob is here, of whatever repository; it stays for the next hour then.

        So it does for a client that only asks: what it was told is here it does not send, but names later.
        """
        repository(path)
        if not holds(self._content, sha256(digest)):
            return False
        self.uploads.keep(digest)
        return True

    async def put(
        self, path: str, identifier: str, data: bytes, media_type: str
    ) -> tuple[Digest, Digest | None]:
        """Take a manifest in; its digest and that of its subject. Refusal."""
        where = repository(path)
        digest = digests.of(data)
        tag = "" if ":" in identifier else _tag(identifier)
        if not tag and _digest(identifier) != digest:
            raise Refusal("DIGEST_INVALID", f"the manifest has digest {digest}, not {identifier}")
        document = _parsed(data, media_type)
        row = shelf.row(document, media_type, len(data), time.time())
        with self._leases.hold(digest, *row.needs) as lease:
            missing = next((one for one in row.needs if not holds(self._content, one)), None)
            if missing is not None:
                code = "MANIFEST_BLOB_UNKNOWN" if isinstance(document, Manifest) else "MANIFEST_UNKNOWN"
                raise Refusal(code, f"the manifest names what is not here: {missing}")
            await asyncio.to_thread(store, self._content, "manifest", data)
            await asyncio.to_thread(self._content.sync)
            image = await self._image(document, digest, lease) if tag else None
            if image is None:
                self._take_name(where, tag)
                self._shelf.put(where.name, digest, row, tag)
            else:
                self._shelf.put(where.name, digest, row)
                self._shelf.untag(where.name, tag)
                named = where.with_tag(tag)
                self._names.put(image, [(named, digest), (where.with_digest(digest), digest)])
                self._publish("push", named.familiar, {"name": named.familiar_name})
        return digest, row.subject

    async def delete(self, path: str, identifier: str) -> None:
        """Untag, or with a digest: remove the manifest and its tags. Refusal."""
        where = repository(path)
        if ":" not in identifier:
            gone = self._shelf.tag(where.name, identifier) is not None
            self._shelf.untag(where.name, identifier)
            gone |= await self._remove_name(where.with_tag(_tag(identifier)))
        else:
            digest = _digest(identifier)
            found = self._by_digest(where, digest)
            tags = [one for one in self._names.tagged(where.name) if self._means(one, digest)]
            for one in tags:
                await self._remove_name(one)
            await self._remove_name(where.with_digest(digest))
            self._shelf.forget(where.name, digest)
            gone = found is not None or bool(tags)
        if not gone:
            raise Refusal("MANIFEST_UNKNOWN", f"manifest unknown: {path} has no {identifier}")

    def delete_blob(self, path: str, digest: str) -> None:
        """Refusal when it is not here, or something needs it."""
        self.blob(path, digest)
        if digest in self._needs.blobs():
            raise Refusal("UNSUPPORTED", f"blob {digest} is in use: remove what names it")
        self._content.delete(Digest(digest))

    # -- inside

    async def _by_tag(self, where: Reference, tag: str) -> Document | None:
        meaning = self._names.meaning(where.with_tag(_tag(tag)))
        if meaning is None:
            shelved = self._shelf.tag(where.name, tag)
            return self._by_digest(where, shelved) if shelved else None
        if meaning.manifest is not None and (found := self._document(meaning.manifest)):
            row = self._names.image(meaning.image)
            if meaning.manifest != row.manifest or self._has_layers(row):
                return found
        return await self._of_image(where, self._names.image(meaning.image))

    def _by_digest(self, where: Reference, digest: Digest) -> Document | None:
        row = self._shelf.get(where.name, digest)
        if row is not None:
            found = self._document(digest)
            return Document(found.data, row.media_type) if found else None
        meaning = self._names.meaning(where.with_digest(digest))
        if meaning is not None and meaning.manifest == digest:
            return self._document(digest)
        for image in self._names.images():
            if image.manifest == digest and any(
                one.name == where.name for one in self._names.references(image.id)
            ):
                return self._document(digest)
        return None

    def _document(self, digest: Digest) -> Document | None:
        try:
            data = documents.read(self._content, digest)
            found = manifests.parse(data)
        except (NotFound, InvalidParameter, NotImplementedHere):  # of an index, only one image was fetched
            return None
        return Document(data, manifests.type_of(found))

    async def _of_image(self, where: Reference, row: ImageRow) -> Document:
        """The manifest that it came with, when all its blobs are here; else one of our making."""
        own = documents.came_with(self._content, row)
        if own is not None and self._has_layers(row):
            return own[0]
        try:
            with self._leases.hold(row.id, *row.blobs) as lease:
                packed = [await self._packer.packed(layer, lease) for layer in row.layers]
                blobs = [Descriptor(one.media_type, one.blob or Digest(""), one.blob_size) for one in packed]
                document, manifest = documents.made(self._content, row, blobs, own[0] if own else None)
                known = self._shelf.get(where.name, document.digest)
                if known is None or time.time() - known.came > REFRESH_SECONDS:
                    await asyncio.to_thread(store, self._content, "manifest", document.data)
                    made = shelf.row(manifest, document.media_type, len(document.data), time.time())
                    self._shelf.put(where.name, document.digest, made)
        except (NotFound, DigestMismatch) as error:
            raise Refusal("MANIFEST_UNKNOWN", str(error)) from error
        return document

    def _has_layers(self, row: ImageRow) -> bool:
        """Whether the layers of the manifest that the image came with are here, as it names them."""
        own = documents.came_with(self._content, row)
        return own is not None and all(holds(self._content, one.digest) for one in own[1].layers)

    async def _image(self, document: Manifest | Index, digest: Digest, lease: HeldLease) -> ImageRow | None:
        """The image that the manifest, or its entry for this machine, makes here; None when it makes none.

        A registry takes what it is given: what cannot be extracted is kept all the same.
        """
        try:
            if isinstance(document, Index):
                digest = manifests.choose(document, self._platform).digest
                chosen = manifests.parse(documents.read(self._content, digest))
            else:
                chosen = document
            if isinstance(chosen, Index) or not _is_image(chosen):
                return None
            data = documents.read(self._content, chosen.config.digest, LARGEST)
            config = parse_config(data)
            if config.platform.os != self._platform.os or len(config.diff_ids) != len(chosen.layers):
                return None
            rows: list[LayerRow] = []
            for number, (diff_id, one) in enumerate(zip(config.diff_ids, chosen.layers, strict=True)):
                below = config.diff_ids[:number]
                row = await self._assembler.layer(one.digest, below, diff_id, lease=lease, keeps_blob=True)
                rows.append(replace(row, media_type=one.media_type))
            id = ImageID(chosen.config.digest)
            if id != await self._assembler.image(data, rows, manifest=digest):
                raise DigestMismatch(f"the config is not {id}")
            return self._names.image(id)
        except (NotFound, InvalidParameter, DigestMismatch, NotImplementedHere) as error:
            log.info("manifest %s is kept, but makes no image here: %s", digest, error)
            return None

    def _means(self, reference: Reference, digest: Digest) -> bool:
        meaning = self._names.meaning(reference)
        if meaning is None:
            return False
        return digest in (meaning.manifest, self._names.image(meaning.image).manifest)

    async def _remove_name(self, reference: Reference) -> bool:
        if self._names.meaning(reference) is None:
            return False
        try:
            await self._remove(reference.familiar)
        except Conflict as error:
            raise Refusal("DENIED", str(error)) from error
        return True

    def _take_name(self, where: Reference, tag: str) -> None:
        """The tag means something else from now on: no image."""
        if tag and self._names.meaning(where.with_tag(tag)) is not None:
            self._names.unname(where.with_tag(tag))


def repository(path: str) -> Reference:
    """The repository of that path. Refusal."""
    try:
        found = parse(path)
    except InvalidParameter as error:
        raise Refusal("NAME_INVALID", f"invalid repository name: {error}") from error
    if not found.is_bare:
        raise Refusal("NAME_INVALID", f"invalid repository name: {path}")
    return found


def page(items: Sequence[str], last: str, most: int | None) -> tuple[Sequence[str], bool]:
    """Those after last, at most so many; whether more follow. Pure."""
    rest = [one for one in items if one > last] if last else items
    if most is None or len(rest) <= most:
        return rest, False
    return rest[:most], most > 0


def _is_image(manifest: Manifest) -> bool:
    return (
        manifest.artifact_type is None
        and manifest.config.media_type in CONFIGS
        and all(one.media_type in LAYERS and not one.urls for one in manifest.layers)
    )


def _parsed(data: bytes, media_type: str) -> Manifest | Index:
    if media_type not in MANIFESTS | INDEXES:
        raise Refusal("MANIFEST_INVALID", f"unknown media type of a manifest: {media_type!r}")
    try:
        document = manifests.parse(data, media_type)
    except (InvalidParameter, NotImplementedHere) as error:
        raise Refusal("MANIFEST_INVALID", str(error)) from error
    if document.media_type not in (None, media_type):
        raise Refusal("MANIFEST_INVALID", f"the manifest says it is {document.media_type}, not {media_type}")
    return document


def _digest(text: str) -> Digest:
    try:
        return digests.parse(text)
    except InvalidParameter as error:
        raise Refusal("DIGEST_INVALID", str(error)) from error


def sha256(text: str) -> Digest:
    """The digest that text spells, of the kind that the store has. Refusal."""
    digest = _digest(text)
    if digests.algorithm(digest) != "sha256":
        raise Refusal("DIGEST_INVALID", f"unsupported digest {text}: expected sha256")
    return digest


def _tag(text: str) -> str:
    try:
        return parse_tag(text)
    except InvalidParameter as error:
        raise Refusal("TAG_INVALID", f"invalid tag {text!r}") from error
