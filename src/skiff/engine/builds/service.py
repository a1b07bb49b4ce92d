"""Builds: a context and a Dockerfile become an image. The front desk; walking the plan is the solver's.

context ─► Dockerfile ─► Plan (asks for base images, which are pulled) ─► Solving, told step by step
        ─► squash? ─► names
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec.structs import replace

from skiff.docker.filters import Filters
from skiff.docker.units import rfc3339
from skiff.engine.builds import entitlements, foreign, inline, mounting, outputs
from skiff.engine.builds.cache_mounts import CacheMounts
from skiff.engine.builds.carried import Brought, Carrier
from skiff.engine.builds.foreign import ForeignImage
from skiff.engine.builds.handing import Handing
from skiff.engine.builds.inputs import Inputs, gathered
from skiff.engine.builds.kept import Trees
from skiff.engine.builds.narration import Emit, Headings, Made, Narrator, Telling, Untold, merged
from skiff.engine.builds.plan import Plan
from skiff.engine.builds.planning import Planning, image_of
from skiff.engine.builds.pruning import Pruning
from skiff.engine.builds.request import BuildRequest
from skiff.engine.builds.scratch import discard
from skiff.engine.builds.solver import Job, Solver, Solving
from skiff.engine.builds.sources import BuildSources
from skiff.engine.builds.squashing import Squasher
from skiff.engine.builds.threads import finished
from skiff.engine.builds.verifying import differences
from skiff.engine.images.names import LayerRow
from skiff.engine.images.service import Images
from skiff.engine.storage.extractor import Extractor
from skiff.errors import (
    Conflict,
    DigestMismatch,
    InvalidParameter,
    NotFound,
    NotImplementedHere,
    SkiffError,
    Unavailable,
)
from skiff.oci import digest as digests
from skiff.oci import reference as references
from skiff.oci.digest import ChainID, ImageID
from skiff.oci.image import ImageConfig, RootFS, encode
from skiff.oci.platform import Platform, served_by

_ENOUGH = 20  # rounds of asking for base images; one more for each FROM that names a variable


class Builds:
    """Every build of this engine. scratch: contexts and whatever lasts no longer than a build."""

    def __init__(
        self,
        *,
        planning: Planning,
        carrier: Carrier,
        solver: Solver,
        images: Images,
        extractor: Extractor,
        squasher: Squasher,
        trees: Trees,
        caches: CacheMounts,
        pruning: Pruning,
        scratch: str,
        platform: Platform,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._planning = planning
        self._carrier = carrier
        self.handing = Handing()
        self._outputs = outputs.Outputs(images, solver.layering, self.handing)
        self._solver = solver
        self._images = images
        self._extractor = extractor
        self._squasher = squasher
        self.trees = trees
        self.caches = caches
        self.pruning = pruning
        self._scratch = scratch
        self._platform = platform
        self._now = now
        self._ready = asyncio.Event()
        self._over: asyncio.Queue[str] = asyncio.Queue()  # directories of builds that have ended
        os.makedirs(scratch, mode=0o711, exist_ok=True)
        mounting.recover(scratch)
        for name in os.listdir(scratch):
            discard(f"{scratch}/{name}")
        solver.layering.recover()

    async def run(self) -> None:
        """Once the runtime runs: end what a crash left running; builds wait for it. Then tidy up."""
        await self._solver.runner.recover()
        self._ready.set()
        while True:
            directory = await self._over.get()
            await asyncio.to_thread(discard, directory)
            await asyncio.to_thread(self._solver.layering.snapshots.sweep)
            await asyncio.to_thread(self.pruning.keep)

    def close(self) -> None:
        self._extractor.close()

    async def build(
        self, request: BuildRequest, body: AsyncIterator[bytes]
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """What happens, as Docker's events: each time all that wait. Errors before the first are raised,
        later ones told.

        A reader who leaves cancels the build: what runs is killed, what was finished stays in the cache.
        """
        await self._ready.wait()
        directory = f"{self._scratch}/{secrets.token_hex(8)}"
        os.mkdir(directory, 0o711)
        try:
            self._check(request)
            if "" not in request.trees:  # the context is an archive
                await asyncio.to_thread(self._extractor.start)
            async with gathered(request, body, self._extractor, self.trees, directory) as inputs:
                async for events in self._told(request, inputs, directory):
                    yield events
        finally:
            self._over.put_nowait(directory)  # nobody waits for thousands of files to be deleted

    async def _told(
        self, request: BuildRequest, inputs: Inputs, directory: str
    ) -> AsyncIterator[list[dict[str, Any]]]:
        telling = Telling()
        work = asyncio.ensure_future(self._work(request, inputs, directory, telling))
        work.add_done_callback(lambda _: telling.end())
        try:
            async for events in telling:
                told = [event for event in events if not request.quiet or "stream" not in event]
                if told:
                    yield told
            id = await work
            if request.quiet:
                yield [{"stream": f"{id}\n"}]
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def _work(
        self, request: BuildRequest, inputs: Inputs, directory: str, telling: Telling
    ) -> ImageID | None:
        emit = telling.emit
        headings = Headings(emit)
        if request.check:
            await self._check_only(request, inputs, emit)
            return None
        plan, known = await self._planning.plan(request, inputs, emit, headings)
        entitlements.check(plan, request.allow, request.network)
        epoch = self._planning.epoch(request, known, inputs, self._now())
        brought = await self._brought(request, inputs, directory, emit)
        images = self._cache_images(request)
        job = Job(
            plan=plan,
            request=request,
            sources=BuildSources(self._images, directory, inputs.contexts),
            epoch_ns=epoch,
            name=request.tags[0] if request.tags else request.dockerfile,
            brought=brought,
            agent=partial(self.handing.agent, emit=emit),
            allowed=self._allowed(images),
            histories=self._histories(images, brought),
            foreign=self._foreign(images),
        )
        solving = Solving(self._solver, job)
        made = await self._solve(solving, telling, headings)
        if made.image is None:
            raise InvalidParameter("No image was generated. Is your Dockerfile empty?")
        id = made.image
        chain = made.files.chain
        if request.squash:
            id, chain = await self._squash(solving, made, plan, epoch)
        elif inline.is_wanted(request):
            steps = solving.carried(everything=False)
            config = inline.written(made.config, steps, solving.images)
            id = await self._assemble(solving.fresh, config, made.files.layers, made.image)
        if id != made.image and not request.quiet:
            emit({"aux": {"ID": id}})
        if request.verify:
            await self._verify(job, made, emit)
        if plan.unused_build_args:
            emit({"stream": _unused(plan.unused_build_args)})
        emit({"stream": f"Successfully built {id.removeprefix('sha256:')[:12]}\n"})
        if outputs.keeps(request):
            for name in outputs.names(request):
                reference = references.parse(name).tagged()
                await self._images.name(id, reference)
                emit({"stream": f"Successfully tagged {reference.familiar}\n"})
        try:
            await self._outputs.send(request, outputs.Result(id, chain), emit)
            await self._carry(request, solving, directory, emit)
        finally:
            if not outputs.keeps(request):
                for image in reversed(solving.fresh):
                    with suppress(NotFound, Conflict):  # somebody else has taken a liking to it
                        await self._images.remove(image, prune_parents=False)
        return id

    async def _check_only(self, request: BuildRequest, inputs: Inputs, emit: Emit) -> None:
        """--check: the lint's findings as one event."""
        checked = await self._planning.check(request, inputs, emit, Headings(Untold().emit))
        found = {
            "Warnings": [
                {
                    "RuleName": one.rule,
                    "Description": one.description,
                    "Url": one.url,
                    "Detail": one.message,
                    "Line": one.line,
                }
                for one in checked.warnings
            ],
            "Error": checked.error,
            "Source": inputs.dockerfile.decode("utf-8", "replace"),
        }
        emit({"aux": {"Check": found}})

    async def _brought(
        self, request: BuildRequest, inputs: Inputs, directory: str, emit: Emit
    ) -> list[Brought]:
        """--cache-from: caches, and images that have one inline, here or in their registry.

        What is not there yet is no error, as Docker has it.
        """
        found: list[Brought] = []
        for number, source in enumerate(request.cache_from):
            try:
                if source.type == "local":
                    found.append(await self._carrier.from_layout(inputs.caches[source.tree]))
                    continue
                here = self._image_here(source.ref) if source.type == "image" else None
                if here is None:
                    credentials = request.credentials.get(references.parse(source.ref).domain)
                    place = f"{directory}/cache-{number}"
                    found.append(await self._carrier.from_registry(source.ref, credentials, place))
                elif (inline_cache := self._carrier.from_image(here)) is not None:
                    found.append(inline_cache)
            except (NotFound, Unavailable, InvalidParameter, DigestMismatch) as error:
                emit({"stream": f"[Warning] no cache from {source.ref or 'the directory'}: {error}\n"})
        return found

    async def _carry(self, request: BuildRequest, solving: Solving, directory: str, emit: Emit) -> None:
        """--cache-to."""
        for number, one in enumerate(request.cache_to):
            if one.type == "inline":
                continue  # it is in the image
            steps = solving.carried(everything=one.attributes.get("mode") == "max")
            place = f"{directory}/cache-to-{number}"
            packed = await finished(self._carrier.pack, steps, solving.images, place)
            if one.type == "local":
                await self.handing.give(len(request.outputs) + number, self._carrier.archive(packed), emit)
            else:
                name = one.attributes["ref"]
                credentials = request.credentials.get(references.parse(name).domain)
                await self._carrier.push(packed, name, credentials)
                emit({"stream": f"Successfully exported the cache to {name}\n"})

    async def _solve(self, solving: Solving, telling: Telling, headings: Headings) -> Made:
        failure: SkiffError | None = None
        made: Made | None = None
        async with asyncio.TaskGroup() as group:
            solving.begin(group)
            try:
                made = await Narrator(
                    solving, telling, headings, partial(self._assemble, solving.fresh)
                ).tell()
            except SkiffError as error:
                failure = error
                solving.cancel()
        if failure is not None:
            raise failure
        assert made is not None
        return made

    async def _assemble(
        self,
        fresh: list[ImageID],
        config: ImageConfig,
        layers: Sequence[LayerRow],
        parent: ImageID | None,
    ) -> ImageID:
        """The image; one that was not here before is noted in fresh."""
        data = encode(config)
        id = ImageID(digests.of(data))
        if self._images.has(id):
            return id
        fresh.append(id)
        return await self._images.assembler.image(data, layers, parent=parent)

    # -- before the plan is walked

    def _check(self, request: BuildRequest) -> None:
        for tag in request.tags:
            if references.parse(tag).digest:
                raise InvalidParameter("build tag cannot contain a digest")
        wanted = request.platform
        if wanted is not None and wanted not in tuple(served_by(self._platform)):
            raise InvalidParameter(f"invalid platform {wanted}: this machine builds for {self._platform}")
        outputs.check(request)
        if request.squash and inline.is_wanted(request):
            raise InvalidParameter("a squashed image has no layers that an inline cache could tell of")
        for one in request.cache_to:
            known = one.type in ("inline", "local", "registry")
            if not known or (one.type == "registry") != ("ref" in one.attributes):
                raise NotImplementedHere(
                    f"skiff exports no cache of type {one.type!r}: inline, registry or local"
                )

    def _allowed(self, images: Sequence[ImageID] | None) -> frozenset[ChainID] | None:
        if images is None:
            return None
        return frozenset(layer.chain for id in images for layer in self._images.layers(id))

    def _histories(
        self, images: Sequence[ImageID] | None, brought: Sequence[Brought]
    ) -> tuple[tuple[str | None, ...], ...] | None:
        if images is None:
            return None
        found = [self._images.config(id).steps for id in images]
        found += [one.config.steps for one in brought if one.config is not None]
        return tuple(tuple(entry.created_by for entry in steps) for steps in found)

    def _foreign(self, images: Sequence[ImageID] | None) -> Sequence[ForeignImage]:
        found = (foreign.image(self._images.config(id), self._images.layers(id)) for id in images or ())
        return [one for one in found if one is not None]

    def _cache_images(self, request: BuildRequest) -> list[ImageID] | None:
        """The images that alone may serve as cache; None: no such wish."""
        names = [source.ref for source in request.cache_from if source.type == "image"]
        found = [id for id in map(self._image_here, names) if id is not None]
        return found if names else None

    def _image_here(self, name: str) -> ImageID | None:
        try:
            return self._images.find(name)
        except NotFound:
            return None

    # -- after it

    async def _squash(
        self, solving: Solving, made: Made, plan: Plan, epoch_ns: int
    ) -> tuple[ImageID, ChainID | None]:
        """The layers above the base as one: the image, and what it stands on."""
        root = plan.target.root
        op = plan.ops[root]
        base_id = None
        name = image_of(op)
        if name:
            base_id = (await self._images.resolve(name)).id
        base = tuple(self._images.layers(base_id)) if base_id else ()
        above = made.files.layers[len(base) :]
        with self._solver.layering.lease() as lease:
            chain = base[-1].chain if base else None
            layer = await finished(self._squasher.squash, chain, above, epoch_ns, lease)
            return await self._squashed(solving, made, layer, base, base_id, epoch_ns)

    async def _squashed(
        self,
        solving: Solving,
        made: Made,
        layer: LayerRow | None,
        base: Sequence[LayerRow],
        base_id: ImageID | None,
        epoch_ns: int,
    ) -> tuple[ImageID, ChainID | None]:
        layers = (*base, layer) if layer else base
        kept = self._images.config(base_id).steps if base_id else ()
        created = made.config.created or rfc3339(epoch_ns)
        history = (
            *kept,
            *merged(made.config.steps[len(kept) :], created, str(made.image), str(base_id or "scratch")),
        )
        config = replace(
            made.config,
            build_cache=None,
            history=history,
            rootfs=RootFS(diff_ids=tuple(row.diff_id for row in layers)),
        )
        return await self._assemble(solving.fresh, config, layers, base_id), layers[
            -1
        ].chain if layers else None

    async def _verify(self, job: Job, made: Made, emit: Emit) -> None:
        """Build once more without the cache, and say what is different."""
        emit({"stream": "Verify: building once more without the cache\n"})
        fresh = tuple(
            replace(op, ignore_cache=True) if hasattr(op, "ignore_cache") else op for op in job.plan.ops
        )
        untold = Untold()
        again = replace(job, plan=replace(job.plan, ops=fresh))
        second = await self._solve(Solving(self._solver, again), untold, Headings(untold.emit))
        if second.image == made.image:
            emit({"stream": "Verify: the second build gave the same image\n"})
            return
        found = await finished(differences, self._solver.layering, made.files.layers, second.files.layers)
        for line in found:
            emit({"stream": f"Verify: {line}\n"})
        raise InvalidParameter("the second build gave another image")

    # -- the cache

    async def prune(
        self, filters: Filters, *, everything: bool = False, keep_bytes: int = 0, dry_run: bool = False
    ) -> dict[str, Any]:
        """Engine API, BuildPrune. dry_run: only tell what would go."""
        prune = partial(self.pruning.prune, everything=everything, keep_bytes=keep_bytes, dry_run=dry_run)
        gone, freed = await asyncio.to_thread(prune, filters)
        return {"CachesDeleted": gone or None, "SpaceReclaimed": freed}


def _unused(names: Sequence[str]) -> str:
    return f"[Warning] One or more build-args [{' '.join(names)}] were not consumed\n"
