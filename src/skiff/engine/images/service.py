"""The front desk of images: find, list, inspect, tag, remove, prune, and the ways in.

It owns the names and the ids. It does not know containers: it asks `in_use`. What is slow, it lets others do:
Puller, Loader, Remover.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from msgspec.structs import replace

from skiff.docker.filters import Filters
from skiff.docker.image import (
    DeleteResponse,
    GraphDriverData,
    HistoryItem,
    ImageInspect,
    ImagesPruneReport,
    ImageSummary,
)
from skiff.engine.images import fetch, push, suiting, views
from skiff.engine.images.archive import Loader
from skiff.engine.images.assemble import Assembler
from skiff.engine.images.derive import Deriver
from skiff.engine.images.host import HostImage
from skiff.engine.images.hosting import Hosting
from skiff.engine.images.kept import KeptImages
from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.packing import Form, Packer
from skiff.engine.images.progress import Progress
from skiff.engine.images.pull import Puller
from skiff.engine.images.push import Pusher
from skiff.engine.images.record import Image, InUse, Publish
from skiff.engine.images.remote import Remote
from skiff.engine.images.removal import Remover
from skiff.engine.images.reporting import Emit, reported
from skiff.engine.images.save import Saver
from skiff.engine.images.selection import Selection, matches
from skiff.engine.images.shelf import Shelf
from skiff.engine.images.slimming import Slimmer
from skiff.engine.images.unpack import Unpacker
from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import Registries
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.snapshots import Snapshotter
from skiff.engine.storage.state import MemoryState, StateStore
from skiff.engine.storage.uploads import Body
from skiff.errors import Conflict, InvalidParameter, NotFound
from skiff.oci.digest import Digest, ImageID
from skiff.oci.image import ImageConfig
from skiff.oci.image import parse as parse_config
from skiff.oci.platform import Platform
from skiff.oci.reference import Reference, parse

LIST_FILTERS = ("dangling", "label", "label!", "before", "since", "reference", "until")
PRUNE_FILTERS = ("dangling", "label", "label!", "until")


class Images:
    """Every image of this engine."""

    def __init__(
        self,
        *,
        state: StateStore,
        content: ContentStore,
        snapshots: Snapshotter,
        layers: Layers,
        leases: Leases,
        registries: Registries,
        host: HostImage,
        platform: Platform,
        in_use: InUse,
        publish: Publish,
        bin: Bin | None = None,
        downloads: int = fetch.AT_ONCE,
        uploads: int = push.AT_ONCE,
    ) -> None:
        """platform: of this machine. bin: where removed images are kept; without one nothing is.

        downloads: blobs of all pulls together that are on their way at once. uploads: of each push.
        """
        self._names = Names(state)
        self._content = content
        self._snapshots = snapshots
        self._host = host
        self._platform = platform
        self._in_use = in_use
        self._publish = publish
        self._configs: dict[ImageID, ImageConfig] = {}
        self._selection = Selection(self._names, self.config)
        self._unpacker = Unpacker(layers, snapshots)
        self.kept = KeptImages(
            Bin(MemoryState(), keeping=False) if bin is None else bin, self._names, state, publish
        )
        self._puller = Puller(
            self._names, registries, content, leases, self._unpacker, platform, self.kept.images, downloads
        )
        self.assembler = Assembler(self._names, content, leases, self._unpacker, platform)
        self.deriver = Deriver(self._names, content, snapshots, leases, self.assembler, publish)
        self.saver = Saver(self._names, content, snapshots, leases)
        self._shelf = shelf = Shelf(state)
        shelf.settle(blob.digest for blob in content.walk())
        self._needs = needs = Needs(self._names, content, leases, self.kept.images, shelf.needed)
        packer = Packer(state, self._names, content, snapshots, leases, needs)
        self._loader = Loader(self._names, content, leases, self._unpacker, self.assembler, platform, needs)
        self._slimmer = Slimmer(self._names, content, snapshots, needs, wanted=layers.noting)
        self._pusher = Pusher(self._names, registries, content, leases, packer, concurrent=uploads)
        self._remover = Remover(self._names, snapshots, leases, in_use, publish, self.kept, needs)
        self.remote = Remote(registries)
        self.hosting = Hosting(
            names=self._names,
            content=content,
            leases=leases,
            packer=packer,
            assembler=self.assembler,
            kept=shelf,
            needs=needs,
            platform=platform,
            publish=publish,
            remove=self.remove,
        )

    def close(self) -> None:
        """Wait for what threads are extracting; drop what is being uploaded to us."""
        self.hosting.uploads.close()
        self._unpacker.close()

    # -- finding

    async def resolve(self, name: str) -> Image:
        """The image called so: a reference, an id or its prefix, `host`. NotFound: `No such image: x`."""
        if self._host.is_named(name):
            return await self._host.image()
        id, reference = self._names.find(name)
        row = self._names.image(id)
        return Image(
            id=id,
            config=self.config(id),
            chain=row.chain,
            name=reference.familiar if reference else id,
        )

    async def require(self, name: str, wanted: Platform | None) -> None:
        """NotFound unless the image called so runs on that platform; None: any will do."""
        if wanted is not None:
            suiting.check(name, (await self.resolve(name)).config.platform, wanted)

    def config(self, id: ImageID) -> ImageConfig:
        """The config of an image that is here. NotFound."""
        known = self._configs.get(id)
        if known is None:
            with self._content.open(Digest(id)) as blob:
                known = self._configs[id] = parse_config(blob.read())
        return known

    def names_of(self, id: ImageID) -> Sequence[str]:
        """The familiar tags of an image, sorted."""
        return self._names.tags(id) if self._names.has(id) else []

    def descendants(self, id: ImageID) -> set[ImageID]:
        """The image and those built upon its layers: what the filter `ancestor` selects."""
        if not self._names.has(id):
            return {id}
        base = [layer.chain for layer in self._names.image(id).layers]
        return {id} | {
            row.id
            for row in self._names.images()
            if base and [layer.chain for layer in row.layers[: len(base)]] == base
        }

    def family(self, name: str) -> set[str]:
        """The ids of the image called so and of those built upon it; empty when there is none."""
        try:
            id, _ = self._names.find(name)
        except (NotFound, InvalidParameter):
            return set()
        return set(self.descendants(id))

    async def list(
        self, filters: Filters | None = None, *, all: bool = False, shared_size: bool = False
    ) -> list[ImageSummary]:
        """ImageList, newest first; `host` is not stored, so not listed. all: intermediate ones too."""
        wanted = self._selection.select(filters or Filters(), all=all)
        uses = self._shares() if shared_size else {}
        found = []
        for row, config in wanted:
            shared = sum(one.size for one in row.layers if uses.get(one.chain, 0) > 1) if shared_size else -1
            tags, digests = self._names.tags(row.id), self._names.repo_digests(row.id)
            patterns = filters.values("reference") if filters else ()
            if patterns:
                tags = [tag for tag in tags if matches(tag, patterns)]
                digests = [one for one in digests if matches(one, patterns)]
                if not tags and not digests:
                    continue
            found.append(
                views.summary(row, config, tags, digests, shared=shared, users=len(self._in_use(row.id)))
            )
        return sorted(found, key=lambda one: (-one.created, one.id))

    async def inspect(self, name: str) -> ImageInspect:
        """ImageInspect."""
        if self._host.is_named(name):
            image = await self._host.image()
            row = ImageRow(image.id, (), datetime.now(UTC))
            return views.inspection(row, image.config, [image.name], [], GraphDriverData(name="host"))
        id, _ = self._names.find(name)
        row = self._names.image(id)
        graph = await asyncio.to_thread(self._graph, row)
        return views.inspection(
            row,
            self.config(id),
            self._names.tags(id),
            self._names.repo_digests(id),
            graph,
            self.hosting.said_of(id),
        )

    async def history(self, name: str) -> Sequence[HistoryItem]:
        """ImageHistory, newest first."""
        if self._host.is_named(name):
            image = await self._host.image()
            row = ImageRow(image.id, (), datetime.now(UTC))
            return views.history(row, image.config, [(image.id, [image.name])])
        id, _ = self._names.find(name)
        lineage = [(one, self._names.tags(one)) for one in self._names.lineage(id)]
        return views.history(self._names.image(id), self.config(id), lineage)

    def count(self) -> int:
        """How many images there are."""
        return len(self._names.images())

    def rows(self) -> Sequence[ImageRow]:
        """All images as stored."""
        return self._names.images()

    def held(self) -> Sequence[ImageRow]:
        """All images, and the removed ones that can still come back."""
        return self._needs.images()

    def layers(self, id: ImageID) -> Sequence[LayerRow]:
        """The layers of an image, lowest first; none of `host`, which is this machine."""
        return self._names.image(id).layers if self._names.has(id) else ()

    def has(self, id: ImageID) -> bool:
        """Whether the image is here."""
        return self._names.has(id)

    def find(self, name: str) -> ImageID:
        """The id of the image called so. NotFound."""
        return self._names.find(name)[0]

    async def layers_size(self) -> int:
        """Bytes of all layers together, those that images share counted once."""
        return sum({layer.chain: layer.size for row in self._names.images() for layer in row.layers}.values())

    # -- what the collector asks

    def roots(self) -> Sequence[str]:
        """The images, the manifests of names, the masks of `host` and what was removed: what must stay."""
        mine = [row.id for row in self._names.images()]
        shelved = self._shelf.roots()
        return [*mine, *self._names.manifests(), *self._host.chains(), *self.kept.roots(), *shelved]

    def edges(self) -> Mapping[str, Sequence[str]]:
        """From an image to its layers and their blobs, from a manifest pushed here to what it names."""
        found = self._shelf.edges()
        for row in self._needs.images():
            found.setdefault(row.id, []).extend([*(layer.chain for layer in row.layers), *row.blobs])
        return found

    # -- naming and removing

    async def tag(self, name: str, repository: str, tag: str = "") -> None:
        """ImageTag. Conflict for the name `host`."""
        if self._host.is_named(name):
            raise Conflict("conflict: the image host is this machine: it cannot get another name")
        id, _ = self._names.find(name)
        await self.name(id, _target(repository, tag).tagged())

    def is_host(self, name: str) -> bool:
        """Whether a name means this machine."""
        return self._host.is_named(name)

    async def name(self, id: ImageID, reference: Reference) -> None:
        """Give an image a name, taking it from whoever had it."""
        if reference.digest:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        self._refuse_host(reference)
        row = replace(self._names.image(id), tagged=datetime.now(UTC))
        self._names.put(row, [(reference, None)])
        self._publish("tag", id, {"name": reference.familiar})

    async def remove(
        self, name: str, *, force: bool = False, prune_parents: bool = True
    ) -> Sequence[DeleteResponse]:
        """ImageDelete: what was untagged and deleted. NotFound, Conflict."""
        if self._host.is_named(name):
            raise Conflict("conflict: unable to remove host (cannot be forced) - it is this machine itself")
        done = await self._remover.remove(name, force=force, prune_parents=prune_parents)
        self._forget_configs()
        return done

    async def prune(self, filters: Filters | None = None, *, dry_run: bool = False) -> ImagesPruneReport:
        """ImagePrune: dangling images, or with dangling=false all that no container uses.

        dry_run: only tell what would go.
        """
        filters = filters or Filters()
        only_dangling = filters.boolean("dangling", True)
        selected = self._selection.select(
            Filters({k: v for k, v in filters.fields.items() if k != "dangling"}), all=True
        )
        ids = [row.id for row, _ in selected if not (only_dangling and self._names.references(row.id))]
        if dry_run:
            done, freed = self._remover.prunable(ids)
            return ImagesPruneReport(images_deleted=tuple(done) or None, space_reclaimed=freed)
        with self.kept.act():
            done, freed = await self._remover.prune(ids)
        self._forget_configs()
        self._publish("prune", "", {"reclaimed": str(freed)})
        return ImagesPruneReport(images_deleted=tuple(done) or None, space_reclaimed=freed)

    # -- the ways in

    def pull(
        self,
        reference: str,
        *,
        tag: str = "",
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> AsyncGenerator[Progress, None]:
        """ImageCreate with fromImage. tag: a tag or a digest; empty and a bare reference: every tag.

        The first `anext` raises what failed before anything was said; later failures are raised too, and the
        door ends its stream with `progress.failure(str(error))`.
        """

        async def work(emit: Emit) -> None:
            wanted = _target(reference, tag)
            if self._host.is_named(wanted.tagged().familiar):
                emit(Progress(status="Status: host is this machine: there is nothing to pull"))
                return
            pulled = await self._puller.pull(wanted, platform, credentials, emit)
            await self._slimmer.slim(self._meant(pulled))
            for one in pulled:
                self._publish("pull", one.familiar, {"name": one.familiar_name})

        return reported(work)

    def push(
        self,
        reference: str,
        *,
        tag: str = "",
        platform: Platform | None = None,
        credentials: Credentials | None = None,
        form: Form | None = None,
    ) -> AsyncGenerator[Progress, None]:
        """ImagePush. No tag and a bare reference: every tag. form: of all layers. Fails as `pull` does."""

        async def work(emit: Emit) -> None:
            wanted = _target(reference, tag)
            if self._host.is_named(wanted.tagged().familiar):
                raise Conflict("conflict: the image host is this machine: it cannot be pushed")
            for one in await self._pusher.push(wanted, platform, credentials, emit, form):
                self._publish("push", one.familiar, {"name": one.familiar_name})

        return reported(work)

    def load(
        self, stream: Body, *, quiet: bool = False, platform: Platform | None = None
    ) -> AsyncGenerator[Progress, None]:
        """ImageLoad: a docker-archive or OCI layout as tar, perhaps compressed, from the request's body."""

        async def work(emit: Emit) -> None:
            loaded = await self._loader.load(stream, platform, emit, quiet=quiet)
            await self._slimmer.slim(loaded)
            for id in loaded:
                self._publish("load", id, {"name": id})

        return reported(work)

    def import_tar(
        self,
        stream: Body,
        *,
        reference: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: Platform | None = None,
    ) -> AsyncGenerator[Progress, None]:
        """ImageCreate with fromSrc=-: a root file system becomes an image of one layer."""

        async def work(emit: Emit) -> None:
            name = _target(reference, tag).tagged() if reference else None
            if name:
                self._refuse_host(name)
            id = await self._loader.import_tar(stream, name, message, changes, platform)
            self._publish("import", id, {"name": name.familiar if name else id})
            emit(Progress(status=id))

        return reported(work)

    # -- inside

    def _meant(self, references: Iterable[Reference]) -> Iterator[ImageID]:
        for one in references:
            with suppress(NotFound):  # removed again
                yield self._names.find(str(one))[0]

    def _shares(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for row in self._names.images():
            for layer in row.layers:
                counts[layer.chain] = counts.get(layer.chain, 0) + 1
        return counts

    def _graph(self, row: ImageRow) -> GraphDriverData:
        if row.chain is None or not self._unpacker.is_committed(row.chain):
            return GraphDriverData(name=self._snapshots.driver)
        data = {"UpperDir": self._snapshots.directory(row.chain)}
        lowers = self._snapshots.lowers(row.chain)
        if lowers:
            data["LowerDir"] = ":".join(lowers)
        return GraphDriverData(name=self._snapshots.driver, data=data)

    def _refuse_host(self, reference: Reference) -> None:
        if self._host.is_named(reference.tagged().familiar):
            raise Conflict("conflict: the name host:latest belongs to this machine's own image")

    def _forget_configs(self) -> None:
        self._configs = {id: config for id, config in self._configs.items() if self._names.has(id)}


def _target(repository: str, tag: str) -> Reference:
    """`alpine` and `3.20`, `alpine:3.20` and ``, `alpine` and `sha256:…`. InvalidParameter."""
    reference = parse(repository)
    if not tag:
        return reference
    if ":" in tag:
        return parse(f"{reference.name}@{tag}")
    return reference.with_tag(tag)
