"""Pull: a registry's image into content, snapshots and a name.

    resolve ─► choose platform ─► config ─► layers, side by side: fetch ─► extract ─► commit ─► image and name

A lease covers what is fetched until the image is stored. A crash leaves resumable ingests and committed
layers; a later pull goes on from there.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from skiff.engine.images import suiting
from skiff.engine.images.assemble import store
from skiff.engine.images.fetch import AT_ONCE, Fetcher
from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.progress import layer, message, moving
from skiff.engine.images.reporting import Emit
from skiff.engine.images.unpack import Listener, Unpacker
from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import Fetched, Registries, Repository
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.errors import DigestMismatch, InvalidParameter, NotFound, NotImplementedHere, SkiffError
from skiff.oci import manifest as manifests
from skiff.oci.digest import ChainID, DiffID, Digest, ImageID
from skiff.oci.image import LARGEST, ImageConfig, chain_ids
from skiff.oci.image import parse as parse_config
from skiff.oci.manifest import CONFIGS, LAYERS, Descriptor, Index, Manifest
from skiff.oci.platform import Platform
from skiff.oci.reference import Reference

REFERRERS_SECONDS = 2.0
MOST_REFERRERS = 100
_VAGUE_CONFIGS = {"application/octet-stream", "application/json", "text/html", ""}  # of old tools
_DEPRECATED = (
    "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support is"
    " disabled by default and will be removed in an upcoming release. Suggest the author of {} to upgrade the"
    " image to the OCI Format or Docker Image manifest v2, schema 2. More information at"
    " https://docs.docker.com/go/deprecated-image-specs/"
)


class Puller:
    """others: images beside those of names whose blobs are here."""

    def __init__(
        self,
        names: Names,
        registries: Registries,
        content: ContentStore,
        leases: Leases,
        unpacker: Unpacker,
        host: Platform,
        others: Callable[[], Iterable[ImageRow]],
        at_once: int = AT_ONCE,
    ) -> None:
        self._names = names
        self._registries = registries
        self._content = content
        self._leases = leases
        self._unpacker = unpacker
        self._host = host
        self._others = others
        self._fetcher = Fetcher(content, at_once=at_once)

    async def pull(
        self, reference: Reference, platform: Platform | None, credentials: Credentials | None, emit: Emit
    ) -> list[Reference]:
        """Pull one image, or every tag of a bare reference. What was pulled."""
        source = self._registries.repository(reference, credentials)
        self._unpacker.warm()
        if not reference.is_bare:
            is_new = await self._one(source, reference, platform, emit)
            wanted = [reference]
        else:
            wanted = [reference.with_tag(tag) for tag in await source.tags()]
            news = [await self._one(source, one, platform, emit) for one in wanted]
            is_new = any(news)
        verb = "Downloaded newer image for" if is_new else "Image is up to date for"
        emit(message(f"Status: {verb} {reference.familiar}"))
        self._warn(reference, platform, emit)
        return wanted

    def _warn(self, reference: Reference, platform: Platform | None, emit: Emit) -> None:
        """Say so when what came is of another platform than was asked for: a lone image is what it is."""
        meaning = self._names.meaning(_kept(reference.tagged()))
        if meaning is None or platform is None:
            return
        with self._content.open(Digest(meaning.image)) as blob:
            has = parse_config(blob.read()).platform
        try:
            suiting.check(reference.familiar, has, platform)
        except NotFound as error:
            emit(message(f"WARNING: {error}"))

    async def _one(
        self, source: Repository, reference: Reference, platform: Platform | None, emit: Emit
    ) -> bool:
        """Whether the name means something new now."""
        try:
            top = await source.resolve(reference.identifier)
            came, found = top, manifests.parse(top.data, top.descriptor.media_type)
        except NotImplementedHere as error:
            raise NotImplementedHere(_DEPRECATED.format(reference.familiar)) from error
        emit(message(f"Pulling from {reference.path}", reference.identifier))
        if isinstance(found, Index):
            came, found = await self._chosen(source, found, platform)
        asking = asyncio.ensure_future(_said(source, top.descriptor.digest))
        try:
            return await self._come(source, reference, top, came, found, asking, emit)
        except OSError as error:  # a disk that is full, or broken
            raise SkiffError(
                f"write {error.filename or 'layer'}: {(error.strerror or str(error)).lower()}"
            ) from error
        finally:
            asking.cancel()

    async def _come(
        self,
        source: Repository,
        reference: Reference,
        top: Fetched,
        came: Fetched,
        found: Manifest,
        asking: "asyncio.Future[tuple[Descriptor, ...]]",
        emit: Emit,
    ) -> bool:
        """asking: what the registry says about the manifest, on its way."""
        before = self._names.meaning(_kept(reference))
        id = ImageID(found.config.digest)
        manifest = top.descriptor.digest
        with self._leases.hold(found.config.digest, came.descriptor.digest) as lease:
            if self._names.has(id) and self._is_whole(id):
                row = self._names.image(id)
            else:
                row = await self._fetched(source, found, lease, emit)
            await asyncio.to_thread(self._settle, None if row.manifest else came)
            row = replace(row, manifest=row.manifest or came.descriptor.digest)
            self._names.put(row, _named(reference, manifest), origin=reference, said=await asking)
        emit(message(f"Digest: {manifest}"))
        return before is None or before.image != id

    def _settle(self, manifest: Fetched | None) -> None:
        """Keep the manifest, and let the disk have everything before a name leads to it."""
        if manifest is not None:
            store(self._content, "manifest", manifest.data)
        self._content.sync()

    async def _chosen(
        self, source: Repository, index: Index, platform: Platform | None
    ) -> tuple[Fetched, Manifest]:
        descriptor = manifests.choose(index, platform or self._host)
        fetched: Fetched = await source.resolve(descriptor.digest)
        found = manifests.parse(fetched.data, descriptor.media_type)
        if isinstance(found, Index):  # an index of indexes: one level is enough for anybody we met
            raise InvalidParameter(f"manifest {descriptor.digest} is an index within an index")
        return fetched, found

    def _is_whole(self, id: ImageID) -> bool:
        """Its layers are all still there: a crash of the machine may have taken some."""
        return all(self._unpacker.is_committed(one.chain) for one in self._names.image(id).layers)

    async def _fetched(self, source: Repository, found: Manifest, lease: HeldLease, emit: Emit) -> ImageRow:
        _check(found)
        config = await self._config(source, found.config)
        if config.platform.os != self._host.os:
            raise InvalidParameter(f'image operating system "{config.os}" cannot be used on this platform')
        diff_ids = config.diff_ids
        if len(diff_ids) != len(found.layers):
            raise DigestMismatch(
                f"the image has {len(found.layers)} layers, but its config names {len(diff_ids)}"
            )
        chains = chain_ids(diff_ids)
        lease.add(*chains, *(one.digest for one in found.layers))
        for chain, one in zip(chains, found.layers, strict=True):
            if not self._unpacker.is_committed(chain):
                emit(layer("Pulling fs layer", _short(one.digest)))
        done = [asyncio.get_running_loop().create_future() for _ in chains]
        sizes = await _all(
            self._layer(source, number, chains, diff_ids[number], found.layers[number], done, emit)
            for number in range(len(chains))
        )
        rows = [self._row(*one) for one in zip(chains, diff_ids, sizes, found.layers, strict=True)]
        lease.add(*(row.blob for row in rows if row.blob))
        id = ImageID(found.config.digest)
        return ImageRow(id, tuple(rows), datetime.now(UTC), tagged=datetime.now(UTC))

    async def _config(self, source: Repository, descriptor: Descriptor) -> ImageConfig:
        if descriptor.size > LARGEST:
            raise InvalidParameter(f"image config of {descriptor.size} bytes: expected at most {LARGEST}")
        await self._fetcher.fetch(source, descriptor, _unheard)
        with self._content.open(descriptor.digest) as blob:
            return parse_config(blob.read())

    async def _layer(
        self,
        source: Repository,
        number: int,
        chains: Sequence[ChainID],
        diff_id: DiffID,
        blob: Descriptor,
        done: Sequence["asyncio.Future[None]"],
        emit: Emit,
    ) -> int:
        """Its unpacked size in bytes, once it is in its place."""
        chain, parent = chains[number], chains[number - 1] if number else None
        async with self._unpacker.turn(chain, _listener(emit, _short(blob.digest))) as tell:
            if self._unpacker.is_committed(chain):
                size = self._known_size(chain)
                tell("Already exists")
            else:
                await self._fetcher.fetch(source, blob, tell)
                tell("Extracting", 0, blob.size)
                draft = await self._unpacker.extract(
                    lambda: self._content.open(blob.digest), diff_id, blob.size, tell
                )
                size = draft.applied.size
                try:
                    if number:
                        await asyncio.shield(done[number - 1])
                except BaseException:
                    await asyncio.shield(self._unpacker.discard(draft))
                    raise
                tell("Extracting", blob.size, blob.size)
                await self._unpacker.commit(draft, chain, parent)
                tell("Pull complete")
        done[number].set_result(None)
        return size

    def _row(self, chain: ChainID, diff_id: DiffID, size: int, blob: Descriptor) -> LayerRow:
        if self._fetcher.holds(blob):
            return LayerRow(chain, diff_id, size, blob.digest, blob.media_type, blob.size)
        twin = self._names.layer_in(diff_id, self._others())  # the same layer, differently compressed
        if twin is not None:
            return LayerRow(chain, diff_id, size, twin.blob, twin.media_type, twin.blob_size)
        return LayerRow(chain, diff_id, size, None, blob.media_type, blob.size)

    def _known_size(self, chain: ChainID) -> int:
        return self._names.layer_size(chain) or self._unpacker.size(chain)


def _listener(emit: Emit, id: str) -> Listener:
    def tell(status: str, current: int = 0, total: int = 0) -> None:
        emit(moving(status, id, current, total) if total else layer(status, id))

    return tell


def _unheard(status: str, current: int = 0, total: int = 0) -> None:
    """The config is small: Docker says nothing of it either."""


async def _all(works: Iterable[Coroutine[Any, Any, int]]) -> list[int]:
    """Their results; when one fails the others are cancelled and its own error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    return [task.result() for task in tasks]


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _said(source: Repository, subject: Digest) -> tuple[Descriptor, ...]:
    """Nothing where the registry cannot tell, or does not at once: a pull does not fail for that."""
    try:
        async with asyncio.timeout(REFERRERS_SECONDS):
            return tuple(await source.referrers(subject))[:MOST_REFERRERS]
    except (SkiffError, TimeoutError):
        return ()


def _kept(reference: Reference) -> Reference:
    """The name under which the reference is stored."""
    return reference.with_digest(reference.digest) if reference.digest else reference


def _named(reference: Reference, manifest: Digest) -> list[tuple[Reference, Digest | None]]:
    names: list[tuple[Reference, Digest | None]] = [(reference.with_digest(manifest), manifest)]
    if reference.tag and not reference.digest:
        names.append((reference, manifest))
    return names


def _short(digest: str) -> str:
    return digest[7:19]


def _check(found: Manifest) -> None:
    if found.config.media_type not in CONFIGS | _VAGUE_CONFIGS:
        raise InvalidParameter(
            f"unsupported media type {found.config.media_type}: this is an artifact, not an image to run"
        )
    for one in found.layers:
        if one.media_type not in LAYERS and not one.media_type.startswith("application/octet-stream"):
            raise InvalidParameter(f'unsupported layer media type "{one.media_type}"')
