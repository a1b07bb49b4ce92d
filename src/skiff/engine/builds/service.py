"""Builds: a context and a Dockerfile become an image. The front desk; walking the plan is the solver's.

context ─► Dockerfile ─► Plan (asks for base images, which are pulled) ─► Solving, told step by step
        ─► squash? ─► names
"""

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from skiff.docker.filters import Filters
from skiff.docker.units import parse_instant, rfc3339
from skiff.engine.builds import mounting
from skiff.engine.builds.frontend import BuildOptions, Frontend
from skiff.engine.builds.inputs import Inputs, gathered
from skiff.engine.builds.kept import Trees
from skiff.engine.builds.narration import Emit, Made, Narrator, merged
from skiff.engine.builds.plan import BaseImage, Missing, Plan
from skiff.engine.builds.request import BuildRequest
from skiff.engine.builds.solver import EPOCH, Job, Solver, Solving, finished
from skiff.engine.builds.sources import BuildSources
from skiff.engine.builds.squashing import Squasher
from skiff.engine.builds.verifying import differences
from skiff.engine.images.names import LayerRow
from skiff.engine.images.service import Images
from skiff.engine.storage.extractor import Extractor
from skiff.errors import InvalidParameter, NotFound, NotImplementedHere, SkiffError
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
        frontend: Frontend,
        solver: Solver,
        images: Images,
        extractor: Extractor,
        squasher: Squasher,
        trees: Trees,
        scratch: str,
        platform: Platform,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._frontend = frontend
        self._solver = solver
        self._images = images
        self._extractor = extractor
        self._squasher = squasher
        self.trees = trees
        self._scratch = scratch
        self._platform = platform
        self._now = now
        self.cache = solver.cache
        self._ready = asyncio.Event()
        self._over: asyncio.Queue[str] = asyncio.Queue()  # directories of builds that have ended
        os.makedirs(scratch, mode=0o711, exist_ok=True)
        mounting.recover(scratch)
        for name in os.listdir(scratch):
            shutil.rmtree(f"{scratch}/{name}", ignore_errors=True)
        solver.layering.recover()

    async def run(self) -> None:
        """Once the runtime runs: end what a crash left running; builds wait for it. Then tidy up."""
        await self._solver.runner.recover()
        self._ready.set()
        while True:
            directory = await self._over.get()
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            await asyncio.to_thread(self._solver.layering.snapshots.sweep)

    def close(self) -> None:
        self._extractor.close()

    async def build(self, request: BuildRequest, body: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
        """What happens, as Docker's events. Errors before the first event are raised, later ones told.

        A reader who leaves cancels the build: what runs is killed, what was finished stays in the cache.
        """
        await self._ready.wait()
        directory = f"{self._scratch}/{secrets.token_hex(8)}"
        os.mkdir(directory, 0o711)
        try:
            self._check(request)
            await asyncio.to_thread(self._extractor.start)
            async with gathered(request, body, self._extractor, self.trees, directory) as inputs:
                async for event in self._told(request, inputs, directory):
                    yield event
        finally:
            self._over.put_nowait(directory)  # nobody waits for thousands of files to be deleted

    async def _told(
        self, request: BuildRequest, inputs: Inputs, directory: str
    ) -> AsyncIterator[dict[str, Any]]:
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def emit(event: dict[str, Any]) -> None:
            if not request.quiet or "stream" not in event:
                events.put_nowait(event)

        work = asyncio.ensure_future(self._work(request, inputs, directory, emit))
        work.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            id = await work
            if request.quiet:
                yield {"stream": f"{id}\n"}
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def _work(self, request: BuildRequest, inputs: Inputs, directory: str, emit: Emit) -> ImageID:
        plan, known = await self._plan(request, inputs, emit)
        epoch = self._epoch(request, known, inputs)
        sources = BuildSources(self._images, directory, inputs.contexts)
        job = Job(
            plan=plan,
            request=request,
            sources=sources,
            epoch_ns=epoch,
            name=request.tags[0] if request.tags else request.dockerfile,
            allowed=self._allowed(request),
            histories=self._histories(request),
        )
        made = await self._solve(job, emit)
        if made.image is None:
            raise InvalidParameter("No image was generated. Is your Dockerfile empty?")
        id = made.image
        if request.squash:
            id = await self._squash(made, plan, epoch)
        if request.verify:
            await self._verify(job, made, emit)
        if plan.unused_build_args:
            emit({"stream": _unused(plan.unused_build_args)})
        emit({"stream": f"Successfully built {id.removeprefix('sha256:')[:12]}\n"})
        for tag in request.tags:
            reference = references.parse(tag).tagged()
            await self._images.name(id, reference)
            emit({"stream": f"Successfully tagged {reference.familiar}\n"})
        return id

    async def _solve(self, job: Job, emit: Emit) -> Made:
        failure: SkiffError | None = None
        made: Made | None = None
        async with asyncio.TaskGroup() as group:
            solving = Solving(self._solver, job)
            solving.begin(group)
            try:
                made = await Narrator(solving, emit, self._assemble, self._images.config).tell()
            except SkiffError as error:
                failure = error
                solving.cancel()
        if failure is not None:
            raise failure
        assert made is not None
        return made

    async def _assemble(
        self, config: ImageConfig, layers: Sequence[LayerRow], parent: ImageID | None
    ) -> ImageID:
        data = encode(config)
        id = ImageID(digests.of(data))
        if self._images.has(id):
            return id
        return await self._images.assembler.image(data, layers, parent=parent)

    # -- before the plan is walked

    def _check(self, request: BuildRequest) -> None:
        for tag in request.tags:
            if references.parse(tag).digest:
                raise InvalidParameter(f"refusing to create a tag with a digest reference: {tag}")
        wanted = request.platform
        if wanted is not None and wanted not in tuple(served_by(self._platform)):
            raise InvalidParameter(f"invalid platform {wanted}: this machine builds for {self._platform}")
        if request.output:
            raise NotImplementedHere("skiff exports builds by its own command line only")

    async def _plan(
        self, request: BuildRequest, inputs: Inputs, emit: Emit
    ) -> tuple[Plan, Mapping[BaseImage, ImageConfig]]:
        options = BuildOptions(
            host=self._platform,
            target=request.target,
            build_args=request.build_args,
            labels=request.labels,
            platform=request.platform,
            contexts=inputs.images,
            network=request.network if request.network in ("none", "host") else "default",
            ignore_cache=request.ignore_cache,
            filename=request.dockerfile,
            ignored=inputs.ignored,
        )
        known: dict[BaseImage, ImageConfig] = {}
        for _ in range(_ENOUGH):
            plan = await finished(self._frontend.plan, inputs.dockerfile, options, known)
            if isinstance(plan, Plan):
                for op in plan.ops:  # images that only COPY --from names
                    if op_name := _image_of(op):
                        known[BaseImage(op_name, self._platform)] = await self._image(op_name, request, emit)
                return plan, known
            assert isinstance(plan, Missing)
            for base in plan.images:
                known[base] = await self._image(base.ref, request, emit)
        raise InvalidParameter("the Dockerfile asks for ever more base images")

    async def _image(self, name: str, request: BuildRequest, emit: Emit) -> ImageConfig:
        """Its config; it is pulled when it is not here, or when asked for."""
        if not request.pull:
            try:
                return (await self._images.resolve(name)).config
            except NotFound:
                pass
        reference = references.parse(name).tagged()
        credentials = request.credentials.get(reference.domain)
        async for event in self._images.pull(name, tag=reference.identifier, credentials=credentials):
            emit(_event(event))
        return (await self._images.resolve(name)).config

    def _epoch(self, request: BuildRequest, known: Mapping[BaseImage, ImageConfig], inputs: Inputs) -> int:
        """The time of the build: no file that it makes is newer.

        As SOURCE_DATE_EPOCH says, else the time of the newest thing that goes in. The same inputs have the
        same time, so they give the same image.
        """
        said = request.build_args.get(EPOCH)
        if said:
            if not said.isdigit():
                raise InvalidParameter(f"invalid {EPOCH}: {said!r}: expected seconds since 1970")
            return int(said) * 1_000_000_000
        times = [inputs.newest_ns]
        times += [parse_instant(config.created) for config in known.values() if config.created]
        whole = min(max(times), self._now()) // 1_000_000_000
        return whole * 1_000_000_000

    def _allowed(self, request: BuildRequest) -> frozenset[ChainID] | None:
        if not request.cache_from:
            return None
        return frozenset(
            layer.chain for id in self._cache_images(request) for layer in self._images.layers(id)
        )

    def _histories(self, request: BuildRequest) -> tuple[tuple[str | None, ...], ...] | None:
        if not request.cache_from:
            return None
        found = (self._images.config(id).steps for id in self._cache_images(request))
        return tuple(tuple(entry.created_by for entry in steps) for steps in found)

    def _cache_images(self, request: BuildRequest) -> list[ImageID]:
        found = []
        for name in request.cache_from:
            try:
                found.append(self._images.find(name))
            except NotFound:
                continue  # as Docker: an image that is not here is no source
        return found

    # -- after it

    async def _squash(self, made: Made, plan: Plan, epoch_ns: int) -> ImageID:
        """The layers above the base as one."""
        root = plan.target.root
        op = plan.ops[root]
        base_id = None
        name = _image_of(op)
        if name:
            base_id = (await self._images.resolve(name)).id
        base = tuple(self._images.layers(base_id)) if base_id else ()
        above = made.files.layers[len(base) :]
        layer = await finished(self._squasher.squash, base[-1].chain if base else None, above, epoch_ns)
        layers = (*base, layer) if layer else base
        kept = self._images.config(base_id).steps if base_id else ()
        created = made.config.created or rfc3339(epoch_ns)
        history = (
            *kept,
            *merged(made.config.steps[len(kept) :], created, str(made.image), str(base_id or "scratch")),
        )
        config = replace(
            made.config, history=history, rootfs=RootFS(diff_ids=tuple(row.diff_id for row in layers))
        )
        return await self._assemble(config, layers, base_id)

    async def _verify(self, job: Job, made: Made, emit: Emit) -> None:
        """Build once more without the cache, and say what is different."""
        emit({"stream": "Verify: building once more without the cache\n"})
        fresh = tuple(
            replace(op, ignore_cache=True) if hasattr(op, "ignore_cache") else op for op in job.plan.ops
        )
        again = replace(job, plan=replace(job.plan, ops=fresh))
        second = await self._solve(again, lambda event: None)
        if second.image == made.image:
            emit({"stream": "Verify: the second build gave the same image\n"})
            return
        found = await finished(differences, self._solver.layering, made.files.layers, second.files.layers)
        for line in found:
            emit({"stream": f"Verify: {line}\n"})
        raise InvalidParameter("the second build gave another image")

    # -- the cache

    async def prune(
        self, filters: Filters, *, everything: bool = False, keep_bytes: int = 0
    ) -> dict[str, Any]:
        """Engine API, BuildPrune."""

        def work() -> tuple[list[str], int]:
            gone, freed = self.cache.prune(filters, everything=everything, keep_bytes=keep_bytes)
            if everything and not filters and not keep_bytes:
                for path in self._solver.mounter.caches():
                    shutil.rmtree(path, ignore_errors=True)
            return gone, freed

        gone, freed = await asyncio.to_thread(work)
        return {"CachesDeleted": gone or None, "SpaceReclaimed": freed}


def _image_of(op: object) -> str:
    return str(getattr(op, "name", "")) if getattr(op, "kind", "") == "image" else ""


def _unused(names: Sequence[str]) -> str:
    return f"[Warning] One or more build-args [{' '.join(names)}] were not consumed\n"


def _event(event: Any) -> dict[str, Any]:
    """An event of a pull, as it goes on the wire."""
    made: dict[str, Any] = msgspec.to_builtins(event)
    return made
