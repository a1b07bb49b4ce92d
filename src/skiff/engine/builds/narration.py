"""A build told step by step, in the classic words and in the order of the Dockerfile, and its images made.

Steps may run side by side; they are told one after the other. Each step is an image of its own, as Docker has
it: it can be run to look at what went wrong after it.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skiff.docker.units import rfc3339
from skiff.engine.builds.filesystem import FileSystem
from skiff.engine.builds.plan import CopyOp, ExecOp, MetaOp, OpIndex, SourceOp, Stage, Step
from skiff.engine.builds.solver import Log, Solving
from skiff.engine.images.names import LayerRow
from skiff.errors import SkiffError
from skiff.oci.digest import ImageID
from skiff.oci.image import History, ImageConfig, RootFS

_MOST_WAITING = 256  # events
Emit = Callable[[dict[str, Any]], None]


class Telling:
    """Events on their way to a client, in order. Who tells much waits for room."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._taken = asyncio.Event()

    def emit(self, event: dict[str, Any]) -> None:
        self._events.put_nowait(event)

    def end(self) -> None:
        self._events.put_nowait(None)

    async def room(self) -> None:
        """Until not too many wait. A client that reads slowly slows down what it is told of."""
        while self._events.qsize() > _MOST_WAITING:
            self._taken.clear()
            await self._taken.wait()

    async def __aiter__(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Until the end; each time all that wait."""
        is_over = False
        while not is_over:
            waiting = [await self._events.get()]
            while not self._events.empty():
                waiting.append(self._events.get_nowait())
            self._taken.set()
            is_over = waiting[-1] is None
            if found := [event for event in waiting if event is not None]:
                yield found


class Untold(Telling):
    """Of what nobody is to hear."""

    def emit(self, event: dict[str, Any]) -> None:
        pass


class Assemble(Protocol):
    """Stores an image: its config, its layers, the image before it."""

    def __call__(
        self, config: ImageConfig, layers: Sequence[LayerRow], parent: ImageID | None
    ) -> Awaitable[ImageID]: ...


class Made(Struct, frozen=True):
    """Where a stage has come to. key: of the last step. is_cached: every step so far."""

    image: ImageID | None
    config: ImageConfig
    files: FileSystem
    key: str
    is_cached: bool


class Headings:
    """`Step 2/4 : RUN make`, each told once: by the pull of what a step begins from, by the error that ends
    the build there, or by the narrator.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._told: set[str] = set()

    def tell(self, *headings: str) -> None:
        for heading in headings:
            if heading not in self._told:
                self._told.add(heading)
                self._emit({"stream": heading})
                self._emit({"stream": "\n"})


def is_first(headings: Sequence[str]) -> bool:
    """Whether nothing but arguments stands before the last of them."""
    return bool(headings) and headings[-1].startswith(f"Step {len(headings)}/")


class Narrator:
    def __init__(
        self,
        solving: Solving,
        telling: Telling,
        headings: Headings,
        assemble: Assemble,
    ) -> None:
        self._solving = solving
        self._plan = solving.job.plan
        self._emit = telling.emit
        self._room = telling.room
        self._headings = headings
        self._assemble = assemble
        self._stages: dict[OpIndex, Made] = {}

    def say(self, text: str) -> None:
        self._emit({"stream": text})

    async def tell(self) -> Made:
        """Until the target is made, or a step fails: its error is raised."""
        made: Made | None = None
        for number, argument in enumerate(self._plan.arguments, 1):
            self._headings.tell(f"Step {number}/{self._plan.total} : {argument}")
        for stage in self._plan.stages:
            made = await self._stage(stage)
            if made.image is not None and not self._solving.job.request.quiet:
                self._emit({"aux": {"ID": made.image}})
        assert made is not None
        return made

    async def _stage(self, stage: Stage) -> Made:
        made: Made | None = None
        triggers = sum(not step.number for step in stage.steps)
        for step in stage.steps:
            if step.number:
                self._headings.tell(f"Step {step.number}/{self._plan.total} : {step.text}")
            if made is None:
                made = await self._begun(stage, step)
                if triggers:
                    self.say(f"# Executing {triggers} build trigger{'s' if triggers > 1 else ''}\n")
                else:
                    self.say(f" ---> {_short(made.image)}\n")
            else:
                made = await self._after(stage, step, made)
        assert made is not None
        self._stages[stage.output] = made
        return made

    async def _begun(self, stage: Stage, step: Step) -> Made:
        """FROM."""
        files = await self._listen(stage.root)
        known = self._stages.get(stage.root)
        op = self._plan.ops[stage.root]
        if known is not None:
            made = known
        elif files.config is not None:
            made = Made(files.image, files.config, files, str(files.image), True)
        else:
            made = Made(None, replace(stage.image, history=(), rootfs=RootFS()), files, files.key, True)
        if isinstance(op, SourceOp) and step.history:  # FROM set something of its own
            return await self._image(stage, step, made, files, is_cached=True)
        return made

    async def _after(self, stage: Stage, step: Step, before: Made) -> Made:
        op = self._plan.ops[step.op]
        log = self._solving.logs[step.op]
        files = before.files
        shown = ""
        if isinstance(op, MetaOp):
            is_cached = before.is_cached and self._is_known(step, before)
        else:
            try:
                files = await self._listen(step.op, tell_id=isinstance(op, ExecOp))
            except SkiffError:
                if log.id and self._solving.job.request.force_remove:
                    self._removed(log.id)
                raise
            is_cached = files.is_cached
            shown = log.id
        if is_cached:
            self.say(" ---> Using cache\n")
        else:
            if log.why:
                self.say(f" ---> Why: {log.why}\n")
            if not isinstance(op, (CopyOp, ExecOp)):
                shown = secrets.token_hex(32)
                self.say(f" ---> Running in {shown[:12]}\n")
            if shown and self._solving.job.request.remove:
                self._removed(shown)
        made = await self._image(stage, step, before, files, is_cached=is_cached)
        self.say(f" ---> {_short(made.image)}\n")
        return made

    def _removed(self, id: str) -> None:
        self.say(f" ---> Removed intermediate container {id[:12]}\n")

    async def _listen(self, index: OpIndex, *, tell_id: bool = False) -> FileSystem:
        """The op's result; what is said about it meanwhile is passed on."""
        log = self._solving.logs[index]
        result = self._solving.future(index)
        log.is_heard, has_id = True, False
        while True:
            log.changed.clear()
            if tell_id and log.id and not has_id:
                has_id = True
                self.say(f" ---> Running in {log.id[:12]}\n")
            await self._pass_on(log)
            if result.done():
                return result.result()
            await log.changed.wait()

    async def _pass_on(self, log: Log) -> None:
        for line in log.take():
            self.say(line)
        await self._room()

    def _is_known(self, step: Step, before: Made) -> bool:
        request = self._solving.job.request
        if request.ignore_cache is not None:
            return False
        if self._solving.foreign(step.op, before.files.chain) is not None:
            return True
        if not self._allows(step, before):
            return False
        return self._solving.step_made(_key(step, before, before.files)) is not None

    def _allows(self, step: Step, before: Made) -> bool:
        """Whether --cache-from leads to an image with this history."""
        histories = self._solving.job.histories
        if histories is None:
            return True
        so_far = tuple(entry.created_by for entry in (*before.config.steps, *step.history))
        return any(history[: len(so_far)] == so_far for history in histories)

    async def _image(
        self, stage: Stage, step: Step, before: Made, files: FileSystem, *, is_cached: bool
    ) -> Made:
        cache = self._solving.solver.cache
        key = _key(step, before, files)
        created = (self._solving.step_made(key) if is_cached else None) or rfc3339(self._solving.job.epoch_ns)
        self._solving.images[key] = created
        if created != cache.step(key):
            cache.put_step(key, created)
        adds = files.layer is not None and len(files.layers) > len(before.files.layers)
        history = tuple(
            replace(entry, created=created, empty_layer=not adds, author=step.author or None)
            for entry in step.history
        )
        config = replace(
            stage.image,
            created=created,
            author=step.author or None,
            config=step.config,
            history=(*before.config.steps, *history),
            rootfs=RootFS(diff_ids=tuple(layer.diff_id for layer in files.layers)),
        )
        image = await self._assemble(config, files.layers, before.image)
        return Made(image, config, files, key, before.is_cached and is_cached)


def _key(step: Step, before: Made, files: FileSystem) -> str:
    """Of the image after a step: what it began from, its files, its config."""
    whole = msgspec.json.encode((before.key, files.key, step.config, step.author, step.history))
    return hashlib.sha256(whole).hexdigest()


def _short(image: ImageID | None) -> str:
    return image.removeprefix("sha256:")[:12] if image else ""


def merged(history: Sequence[History], created: str, image: str, base: str) -> tuple[History, ...]:
    """The history of a squashed image: every step above the base without a layer, then the one with it."""
    last = History(created=created, comment=f"merge {image} to {base}")
    return (*(replace(entry, empty_layer=True) for entry in history), last)
