"""From a Dockerfile to a Plan: what the frontend lacks is looked up or pulled, and it is asked again."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from skiff.docker.units import parse_instant
from skiff.engine.builds.dockerfile.errors import DockerfileError
from skiff.engine.builds.frontend import BuildOptions, Checked, Frontend
from skiff.engine.builds.inputs import Inputs
from skiff.engine.builds.narration import Emit, Headings, is_first
from skiff.engine.builds.plan import BaseImage, Missing, Plan
from skiff.engine.builds.plan import inputs as inputs_of
from skiff.engine.builds.request import BuildRequest
from skiff.engine.builds.solver import EPOCH
from skiff.engine.builds.threads import finished
from skiff.engine.images.service import Images
from skiff.errors import InvalidParameter, NotFound, SkiffError
from skiff.oci import reference as references
from skiff.oci.image import ImageConfig
from skiff.oci.platform import Platform

T = TypeVar("T", Plan, Checked)
Known = Mapping[BaseImage, ImageConfig]
Ask = Callable[[bytes, BuildOptions, Known], T | Missing]
_ENOUGH = 20  # rounds of asking for base images; one more for each FROM that names a variable


class Planning:
    def __init__(self, frontend: Frontend, images: Images, platform: Platform) -> None:
        self._frontend = frontend
        self._images = images
        self._platform = platform

    async def plan(
        self, request: BuildRequest, inputs: Inputs, emit: Emit, headings: Headings
    ) -> tuple[Plan, Known]:
        """And the configs of every image in it, which is here now. InvalidParameter, NotFound.

        Where the builder of Docker would have come to a step before it fails, its heading is told.
        """
        try:
            plan, found = await self._asked(self._frontend.plan, request, inputs, emit, headings)
        except DockerfileError as error:
            headings.tell(*error.headings)
            raise
        known = dict(found)
        for index, op in enumerate(plan.ops):  # images that only COPY --from names
            name = image_of(op)
            if not name:
                continue
            try:
                known[BaseImage(name, self._platform)] = await self._image(name, request, emit)
            except SkiffError as error:
                step = next(step for step in plan.steps if index in inputs_of(plan.ops[step.op]))
                headings.tell(f"Step {step.number}/{plan.total} : {step.text}")
                raise type(error)(f"invalid from flag value {name}: {error}") from error
        return plan, known

    async def check(self, request: BuildRequest, inputs: Inputs, emit: Emit, headings: Headings) -> Checked:
        """What the lint says. InvalidParameter, NotFound."""
        checked, _ = await self._asked(self._frontend.check, request, inputs, emit, headings)
        return checked

    async def _asked(
        self, ask: Ask[T], request: BuildRequest, inputs: Inputs, emit: Emit, headings: Headings
    ) -> tuple[T, Known]:
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
            found = await finished(ask, inputs.dockerfile, options, known)
            if not isinstance(found, Missing):
                return found, known
            for base, lines in zip(found.images, found.headings, strict=True):
                if is_first(lines):  # what a pull says stands below its FROM
                    headings.tell(*lines)
                try:
                    known[base] = await self._image(base.ref, request, emit)
                except SkiffError:
                    headings.tell(*lines)
                    raise
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

    def epoch(self, request: BuildRequest, known: Known, inputs: Inputs, now_ns: int) -> int:
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
        whole = min(max(times), now_ns) // 1_000_000_000
        return whole * 1_000_000_000


def image_of(op: object) -> str:
    """The name of an image that is a source of the plan; "" for any other op."""
    return str(getattr(op, "name", "")) if getattr(op, "kind", "") == "image" else ""


def _event(event: Any) -> dict[str, Any]:
    """An event of a pull, as it goes on the wire."""
    made: dict[str, Any] = msgspec.to_builtins(event)
    return made
