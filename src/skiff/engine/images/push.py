"""Push: an image of ours into a registry, under one tag or all of a repository's.

    layers, side by side: there already? ─► mounted? ─► sent      config ─► manifest, under its tag

An image that came with a manifest goes with that manifest, byte for byte, so that its digest stays; others
get one in Docker's form. Engine API, ImagePush.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import BinaryIO

from skiff.engine.images import documents, suiting
from skiff.engine.images.documents import Document
from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.packing import Form, Packer
from skiff.engine.images.progress import Progress, ProgressDetail, layer, message, moving
from skiff.engine.images.reporting import Emit
from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import Registries
from skiff.engine.registry.upload import Target
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.errors import InvalidParameter, NotFound, SkiffError
from skiff.oci.digest import Digest
from skiff.oci.image import parse as parse_config
from skiff.oci.manifest import Descriptor, Manifest
from skiff.oci.platform import Platform
from skiff.oci.reference import Reference

AT_ONCE = 5  # blobs of one push
REPORT_SECONDS = 0.1


class _BlobLost(SkiffError):
    """A blob that the image's own manifest names is neither here nor there."""


class Pusher:
    """concurrent: how many blobs of one push are on their way at once."""

    def __init__(
        self,
        names: Names,
        registries: Registries,
        content: ContentStore,
        leases: Leases,
        packer: Packer,
        *,
        concurrent: int = AT_ONCE,
    ) -> None:
        self._names = names
        self._registries = registries
        self._content = content
        self._leases = leases
        self._packer = packer
        self._concurrent = concurrent

    async def push(
        self,
        reference: Reference,
        platform: Platform | None,
        credentials: Credentials | None,
        emit: Emit,
        form: Form | None = None,
    ) -> list[Reference]:
        """Push one tag, or every tag of a bare reference. What was pushed. InvalidParameter, NotFound.

        form: the compression that all layers go in; else each goes as it is kept.
        """
        if reference.digest:
            raise InvalidParameter("cannot push a digest reference")
        if platform is not None:
            self._require(reference, platform)
        wanted = [reference] if reference.tag else self._names.tagged(reference.name)
        rows = [(one, self._row(one)) for one in wanted]
        emit(message(f"The push refers to repository [{reference.name}]"))
        if not rows or any(row is None for _, row in rows):
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
        target = await self._registries.target(reference, credentials)
        for one, row in rows:
            if row is not None:
                await self._one(target, one, row, form, emit)
        return wanted

    def _require(self, reference: Reference, platform: Platform) -> None:
        """NotFound. As Docker: of all tags of a repository the default one is looked at."""
        row = self._row(reference.tagged())
        if row is None:
            raise NotFound(f"No such image: {reference.tagged().familiar}")
        suiting.check(reference.familiar, parse_config(self._read(Digest(row.id))).platform, platform)

    def _row(self, reference: Reference) -> ImageRow | None:
        meaning = self._names.meaning(reference)
        return self._names.image(meaning.image) if meaning else None

    async def _one(
        self, target: Target, reference: Reference, row: ImageRow, form: Form | None, emit: Emit
    ) -> None:
        row = self._names.image(row.id)  # the push of a former tag may have packed its layers
        for id in dict.fromkeys(_short(one) for one in reversed(row.layers)):
            emit(layer("Preparing", id))
        formed: list[Digest] = []
        with self._leases.hold(row.id, *row.blobs) as lease:
            document = None
            own = documents.came_with(self._content, row)
            if own is not None and _is_in(own[1], form):
                try:
                    document = await self._as_it_came(target, reference, row, *own, lease, emit)
                except _BlobLost:
                    document = None
            if document is None:
                document = await self._anew(target, reference, row, own, form, formed, lease, emit)
            assert reference.tag is not None
            await target.put_manifest(reference.tag, document.data, document.media_type)
        self._packer.let_go(formed)
        digest, size = document.digest, len(document.data)
        self._names.put(
            self._names.image(row.id), [(reference.with_digest(digest), digest)], origin=reference
        )
        emit(message(f"{reference.tag}: digest: {digest} size: {size}"))
        emit(
            Progress(
                progress_detail=ProgressDetail(),
                aux={"Tag": reference.tag, "Digest": digest, "Size": size},
            )
        )

    async def _as_it_came(
        self,
        target: Target,
        reference: Reference,
        row: ImageRow,
        document: Document,
        manifest: Manifest,
        lease: HeldLease,
        emit: Emit,
    ) -> Document:
        works = {
            _short(known): partial(self._send, target, reference, _short(known), wanted, lease, emit)
            for known, wanted in zip(reversed(row.layers), reversed(manifest.layers), strict=True)
        }
        await self._at_once(works, emit)
        await self._config(target, manifest.config)
        return document

    async def _anew(
        self,
        target: Target,
        reference: Reference,
        row: ImageRow,
        own: tuple[Document, Manifest] | None,
        wanted: Form | None,
        formed: list[Digest],
        lease: HeldLease,
        emit: Emit,
    ) -> Document:
        """With a manifest of our making, in the family of the one it came with. wanted: by the user.

        formed: gets the blobs that were made for this.
        """
        sent: dict[str, Descriptor] = {}

        async def one(known: LayerRow) -> None:
            form = wanted or self._packer.passing(known)
            before = self._packer.known(known, form) if form else None
            if before is not None:  # perhaps the registry has it, and nothing is to be compressed
                try:
                    sent[known.diff_id] = await self._sent(target, reference, before, lease, emit)
                    return
                except _BlobLost:
                    pass
            work = self._packer.formed(known, form, lease) if form else self._packer.packed(known, lease)
            packed = await work
            if form and packed.blob:
                formed.append(packed.blob)
            sent[known.diff_id] = await self._sent(target, reference, packed, lease, emit)

        distinct = {known.diff_id: known for known in reversed(row.layers)}
        await self._at_once({_short(known): partial(one, known) for known in distinct.values()}, emit)
        layers = [sent[known.diff_id] for known in row.layers]
        document, manifest = documents.made(self._content, row, layers, own[0] if own else None)
        await self._config(target, manifest.config)
        return document

    async def _sent(
        self, target: Target, reference: Reference, packed: LayerRow, lease: HeldLease, emit: Emit
    ) -> Descriptor:
        """The layer, now that the repository has it."""
        assert packed.blob is not None
        blob = Descriptor(packed.media_type, packed.blob, packed.blob_size)
        await self._send(target, reference, _short(packed), blob, lease, emit)
        return blob

    async def _send(
        self,
        target: Target,
        reference: Reference,
        id: str,
        blob: Descriptor,
        lease: HeldLease,
        emit: Emit,
    ) -> None:
        """Make sure that the repository has the blob, and say how."""
        if blob.urls:
            emit(layer("Skipped foreign layer", id))
            return
        if await target.holds(blob.digest):
            emit(layer("Layer already exists", id))
            return
        source = await target.mount(blob.digest, self._beside(reference, blob.digest))
        if source is not None:
            emit(layer(f"Mounted from {source}", id))
            return
        try:
            self._content.info(blob.digest)
        except NotFound as error:
            raise _BlobLost(str(error)) from error
        lease.add(blob.digest)
        await target.upload(blob, self._opener(blob.digest), _reporter(emit, id, blob.size))
        emit(layer("Pushed", id))

    async def _config(self, target: Target, config: Descriptor) -> None:
        if not await target.holds(config.digest):
            await target.upload(config, self._opener(config.digest), lambda sent: None)

    async def _at_once(self, works: Mapping[str, Callable[[], Awaitable[None]]], emit: Emit) -> None:
        """All of them, by layer, some at a time; the first failure ends the others and is raised."""
        slots = asyncio.Semaphore(self._concurrent)

        async def one(id: str, work: Callable[[], Awaitable[None]]) -> None:
            if slots.locked():
                emit(layer("Waiting", id))
            async with slots:
                await work()

        try:
            async with asyncio.TaskGroup() as group:
                for id, work in works.items():
                    group.create_task(one(id, work))
        except BaseExceptionGroup as failures:
            error: BaseException = failures
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None

    def _beside(self, reference: Reference, blob: Digest) -> Sequence[str]:
        """Paths of other repositories of the same registry that have the blob."""
        prefix = f"{reference.domain}/"
        found = [one.removeprefix(prefix) for one in self._names.origins(blob) if one.startswith(prefix)]
        return [path for path in found if path != reference.path]

    def _opener(self, digest: Digest) -> Callable[[], BinaryIO]:
        return lambda: self._content.open(digest)

    def _read(self, digest: Digest) -> bytes:
        with self._content.open(digest) as blob:
            return blob.read()


def _reporter(emit: Emit, id: str, total: int) -> Callable[[int], None]:
    clock = asyncio.get_running_loop().time
    told = 0.0

    def sent(current: int) -> None:
        nonlocal told
        if clock() - told >= REPORT_SECONDS:
            told = clock()
            emit(moving("Pushing", id, current, total))

    return sent


def _is_in(manifest: Manifest, form: Form | None) -> bool:
    """Whether all layers are in that compression already."""
    return form is None or all(one.media_type.endswith(form) for one in manifest.layers)


def _short(known: LayerRow) -> str:
    return known.diff_id[7:19]
