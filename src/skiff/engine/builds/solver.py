"""Walks a plan: each op once, as soon as what it stands on is there, from the cache where that knows it.

    op ── inputs' results ─► content of what it takes ─► key ─► cache? ─► FileSystem
                                                           └─► work ─► layer ─► cache

The rule: a result enters the cache before anything stands on it, so a build that fails later keeps it.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from skiff.engine.builds import foreign
from skiff.engine.builds.agents import Agent
from skiff.engine.builds.cache import Cache, Entry
from skiff.engine.builds.filesystem import FileSystem
from skiff.engine.builds.foreign import ForeignImage
from skiff.engine.builds.keys import Part, difference, key_of, key_parts, needs_content
from skiff.engine.builds.layering import Layering, above
from skiff.engine.builds.mounting import Mounter
from skiff.engine.builds.plan import CopyOp, DirectoryOp, ExecOp, MetaOp, Op, OpIndex, Plan, SourceOp, inputs
from skiff.engine.builds.request import BuildRequest
from skiff.engine.builds.running import Runner, new_id
from skiff.engine.builds.selection import NoSuchFile, content_parts, select
from skiff.engine.builds.threads import finished
from skiff.engine.builds.tree import seen
from skiff.engine.builds.work import Work
from skiff.engine.images.names import LayerRow
from skiff.engine.storage.leases import HeldLease
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.errors import InvalidParameter, SkiffError
from skiff.oci.digest import ChainID, Digest, ImageID

EPOCH = "SOURCE_DATE_EPOCH"
LARGEST_LOG = 8 << 20
CLIPPED = f"\n[output clipped: {LARGEST_LOG} characters of it wait for the steps before]\n"
_REMEMBERED = 16


class Brought(Protocol):
    """A cache from elsewhere: builds/carried.py."""

    @property
    def images(self) -> Mapping[str, str]: ...

    def step(self, key: Digest, parent: ChainID | None) -> Any: ...

    async def layer(self, step: Any) -> LayerRow | None: ...


class Done(Struct, frozen=True, kw_only=True):
    """A step that is done, and what it came to."""

    key: Digest
    parent: ChainID | None
    above: str
    text: str
    parts: tuple[Part, ...]
    layer: LayerRow | None


class Sources(Protocol):
    """Where a build's file systems from outside come from."""

    async def source(self, op: SourceOp) -> FileSystem: ...


class Job(Struct, frozen=True, kw_only=True):
    """One build. epoch_ns: no file is newer. name: of what is built, for --why. brought: caches from
    elsewhere. agent: connects to the client's ssh agents.

    allowed: chains that may come from the cache, histories: of images that may; None: all. foreign: images of
    another builder.
    """

    plan: Plan
    request: BuildRequest
    sources: Sources
    epoch_ns: int
    name: str
    brought: Sequence[Brought] = ()
    agent: Agent | None = None
    allowed: frozenset[ChainID] | None = None
    histories: tuple[tuple[str | None, ...], ...] | None = None
    foreign: Sequence[ForeignImage] = ()


class Log:
    """What is said about one op, in order, until somebody takes it; whoever reads waits for more.

    At most LARGEST_LOG characters wait. While somebody hears it, who tells more waits, too; a step whose turn
    to be told has not come goes on, and what it says then is left out: it may hold what others wait for.
    """

    def __init__(self) -> None:
        self.id = ""  # of the process that runs
        self.why = ""
        self.changed = asyncio.Event()
        self.is_heard = False
        self._lines: list[str] = []
        self._waiting = 0
        self._is_clipped = False
        self._room = asyncio.Event()

    async def tell(self, text: str) -> None:
        while self._waiting > LARGEST_LOG and self.is_heard:
            self._room.clear()
            await self._room.wait()
        if self._waiting > LARGEST_LOG:
            text = "" if self._is_clipped else CLIPPED
            self._is_clipped = True
        self._waiting += len(text)
        self._lines.append(text)
        self.changed.set()

    def take(self) -> list[str]:
        """What has been told since the last time."""
        taken, self._lines = self._lines, []
        self._waiting = 0
        self._is_clipped = False
        self._room.set()
        return taken

    def runs(self, id: str) -> None:
        self.id = id
        self.changed.set()


class Contents:
    """What files steps take, for their keys. What kept trees gave is remembered: they never change."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._known: OrderedDict[object, Sequence[Part]] = OrderedDict()

    def copied(
        self, op: CopyOp, patterns: Sequence[str], files: FileSystem, stack: Sequence[str]
    ) -> Sequence[Part]:
        """Blocking. InvalidParameter."""
        asked = (files.token, tuple(patterns), op.exclude, op.parents)
        excluded = self._work.excluding(op.exclude)

        def looked() -> Sequence[Part]:
            with seen(stack) as tree:
                chosen = select(tree, patterns, excluded, parents=op.parents)
                return content_parts(tree, chosen, files.sums, owners=not files.directory)

        return self._remembered(asked, files, looked)

    def bound(self, source: str, files: FileSystem, stack: Sequence[str]) -> Sequence[Part]:
        """Blocking. InvalidParameter."""

        def looked() -> Sequence[Part]:
            with seen(stack) as tree:
                return content_parts(tree, select(tree, (source,)), files.sums, owners=True)

        return self._remembered((files.token, source), files, looked)

    def _remembered(
        self, asked: object, files: FileSystem, looked: Callable[[], Sequence[Part]]
    ) -> Sequence[Part]:
        if not files.token:
            return looked()
        found = self._known.pop(asked, None)
        if found is None:
            found = looked()
        self._known[asked] = found
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


class Solver:
    """What all builds share. at_once: how many ops of them work side by side."""

    def __init__(
        self,
        *,
        layering: Layering,
        cache: Cache,
        runner: Runner,
        mounter: Mounter,
        work: Work,
        at_once: int = os.cpu_count() or 1,
    ) -> None:
        self.layering = layering
        self.cache = cache
        self.runner = runner
        self.mounter = mounter
        self.work = work
        self.contents = Contents(work)
        self.turns = asyncio.Semaphore(max(2, at_once))

    def stack(self, files: FileSystem) -> Sequence[str]:
        return [files.directory] if files.directory else self.layering.stack(files.chain)


class Solving:
    """One plan while it is solved. `result(i)` waits for an op, `logs[i]` tells of it."""

    def __init__(self, solver: Solver, job: Job) -> None:
        self.solver = solver
        self.job = job
        self.logs = [Log() for _ in job.plan.ops]
        self._results: list[asyncio.Future[FileSystem]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.done: dict[OpIndex, Done] = {}
        self.fresh: list[ImageID] = []  # images that were not here before
        self.images: dict[str, str] = {}  # when the image after a step was first made, by the step's key
        self._text = {step.op: step for step in job.plan.steps}
        self._words = {
            step.op: (
                stage.root,
                [entry.created_by or "" for one in stage.steps[: at + 1] for entry in one.history],
            )
            for stage in job.plan.stages
            for at, step in enumerate(stage.steps)
        }

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Every op as a task of the group. A failure is told by its result, to those who wait for it."""
        loop = asyncio.get_running_loop()
        self._results = [loop.create_future() for _ in self.job.plan.ops]
        self._tasks = [
            group.create_task(self._solve(OpIndex(index), op)) for index, op in enumerate(self.job.plan.ops)
        ]

    def carried(self, *, everything: bool) -> list[Done]:
        """The steps to be exported: those that the target itself stands on, or everything."""
        wanted = set(self.done) if everything else set()
        index: OpIndex | None = self.job.plan.target.output
        while index is not None:
            wanted.add(index)
            op = self.job.plan.ops[index]
            index = None if isinstance(op, SourceOp) else op.input
        return [self.done[one] for one in sorted(wanted) if one in self.done]

    def step_made(self, key: str) -> str | None:
        """When the image after a step was first made, here or where a cache was brought from."""
        known = self.solver.cache.step(key)
        return known or next((found for one in self.job.brought if (found := one.images.get(key))), None)

    def foreign(self, index: OpIndex, parent: ChainID | None) -> tuple[LayerRow | None] | None:
        """What the step came to in an image of another builder, if one came of the same steps."""
        op = self.job.plan.ops[index]
        if not self.job.foreign or not foreign.may_match(op):
            return None
        root, ours = self._words[index]
        base = self._results[root].result().config
        words = (*foreign.words(base.steps if base else ()), *ours)
        found = (image.step(op, words, parent) for image in self.job.foreign)
        return next((one for one in found if one is not None), None)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def future(self, index: OpIndex) -> "asyncio.Future[FileSystem]":
        return self._results[index]

    async def result(self, index: OpIndex) -> FileSystem:
        return await asyncio.shield(self._results[index])

    async def _solve(self, index: OpIndex, op: Op) -> None:
        try:
            standing = {one: await self.result(one) for one in inputs(op)}
            made = await self._made(index, op, standing)
        except asyncio.CancelledError:
            self._results[index].cancel()
            raise
        except Exception as error:
            self._results[index].set_exception(error)
            self._results[index].exception()  # whoever waits is told; nobody has to wait
        else:
            self._results[index].set_result(made)
        finally:
            self.logs[index].changed.set()

    async def _made(self, index: OpIndex, op: Op, standing: Mapping[OpIndex, FileSystem]) -> FileSystem:
        if isinstance(op, SourceOp):
            return await self.job.sources.source(op)
        base = standing[op.input]
        if isinstance(op, MetaOp):
            return base
        step = self._text.get(index)
        content: list[Part] = []
        if needs_content(op):
            async with self.solver.turns:
                content = await finished(self._content, op, standing, step.text if step else "")
        parts = key_parts(op, [standing[one].key for one in inputs(op)], content)
        if isinstance(op, CopyOp) and op.link:  # the layer is kept with what it stands on
            parts = (*parts, Part("the layers beneath", base.chain or ""))
        key = key_of(parts, op, [standing[one].key for one in inputs(op)])
        known = self._known(key, op, base.chain)
        place = f"{self.job.name} {step.name if step else index}"
        text = step.text if step else type(op).__name__
        if known is not None:
            self.solver.cache.used(key, place=place)
            layer, is_cached = known.layer, True
        else:
            with self.solver.layering.lease() as lease:
                is_cached, layer = await self._brought(index, op, key, base.chain, self.logs[index], lease)
                if not is_cached:
                    if self.job.request.why and step is not None:
                        self.logs[index].why = self._why(key, parts, step.text, place, op)
                    async with self.solver.turns:
                        layer = await self._layer(op, base.chain, standing, self.logs[index], lease)
                self.solver.cache.put(key, layer, base.chain, parts, text=text, place=place, above=base.key)
        self.done[index] = Done(
            key=key, parent=base.chain, above=base.key, text=text, parts=tuple(parts), layer=layer
        )
        return _on(base, key, layer, is_cached=is_cached)

    async def _brought(
        self,
        index: OpIndex,
        op: ExecOp | CopyOp | DirectoryOp,
        key: Digest,
        parent: ChainID | None,
        log: Log,
        lease: HeldLease,
    ) -> tuple[bool, LayerRow | None]:
        """Whether a cache from elsewhere has the step, and its layer."""
        if op.ignore_cache:
            return False, None
        if found := self.foreign(index, parent):
            if found[0] is not None:
                lease.add(found[0].chain)
            return True, found[0]
        for cache in self.job.brought:
            step = cache.step(key, parent)
            if step is None:
                continue
            if step.diff_id is not None:
                lease.add(above(parent, step.diff_id))
            try:
                async with self.solver.turns:
                    return True, await cache.layer(step)
            except (SkiffError, OSError) as error:
                await log.tell(f"[Warning] the cache cannot be used: {error}\n")
        return False, None

    def _known(self, key: Digest, op: ExecOp | CopyOp | DirectoryOp, parent: ChainID | None) -> Entry | None:
        if op.ignore_cache:
            return None
        known = self.solver.cache.get(key, parent)
        allowed = self.job.allowed
        if known is None or allowed is None or known.layer is None or known.layer.chain in allowed:
            return known
        return None

    def _why(self, key: Digest, parts: Sequence[Part], text: str, place: str, op: Op) -> str:
        if getattr(op, "ignore_cache", False):
            return "the cache was not to be used"
        same = self.solver.cache.parts(key)
        if same is not None:
            return "what it stands on was made anew"
        earlier = self.solver.cache.earlier(text=text, place=place, besides=key)
        if earlier is None:
            return "it was never built here"
        return difference(earlier, parts) or "it is no longer in the cache"

    def _content(self, op: Op, standing: Mapping[OpIndex, FileSystem], text: str) -> list[Part]:
        """What the op takes from trees of which only the files count. Blocking.

        text: its instruction, which an InvalidParameter names.
        """
        parts: list[Part] = []
        contents = self.solver.contents
        for origin in needs_content(op):
            files = standing[origin]
            stack = self.solver.stack(files)
            try:
                if isinstance(op, CopyOp):
                    for source in op.sources:
                        if source.origin == origin:
                            parts += contents.copied(op, source.patterns, files, stack)
                elif isinstance(op, ExecOp):
                    for mount in op.mounts:
                        if mount.origin == origin and mount.kind == "bind":
                            parts += contents.bound(mount.source or "/", files, stack)
            except NoSuchFile as error:
                missing = "file not found in build context or excluded by .dockerignore: "
                where = missing if files.directory else ""
                raise InvalidParameter(f"{text.split()[0].upper()} failed: {where}{error}") from error
        return parts

    async def _layer(
        self,
        op: Op,
        parent: ChainID | None,
        standing: Mapping[OpIndex, FileSystem],
        log: Log,
        lease: HeldLease,
    ) -> LayerRow | None:
        layering = self.solver.layering
        key = await finished(layering.begin, parent)
        try:
            if isinstance(op, ExecOp):
                await self._run(op, key, parent, standing, log)
            else:
                below = layering.stack(parent)
                upper = layering.snapshots.directory(key)
                await finished(
                    self.solver.work.do, op, upper, below, standing, self.solver.stack, self.job.epoch_ns
                )
        except BaseException:
            layering.discard(key)
            raise
        return await finished(layering.commit, key, parent, self.job.epoch_ns, lease)

    async def _run(
        self,
        op: ExecOp,
        key: SnapshotKey,
        parent: ChainID | None,
        standing: Mapping[OpIndex, FileSystem],
        log: Log,
    ) -> None:
        solver, request = self.solver, self.job.request
        id = new_id()
        log.runs(id)
        async with solver.mounter.ready(
            op.mounts, standing, solver.stack, request.secrets, request.agents, self.job.agent
        ) as (mounts, variables):
            # tools that know it write this time instead of now; whoever sets it, knows better
            if not any(entry.startswith(f"{EPOCH}=") for entry in op.env):
                variables[EPOCH] = str(self.job.epoch_ns // 1_000_000_000)
            variables |= {name: value for name, _, value in (e.partition("=") for e in op.hidden_env)}
            await solver.runner.run(
                op, key, solver.layering.stack(parent), mounts, request, variables, log.tell, id
            )


def _on(base: FileSystem, key: Digest, layer: LayerRow | None, *, is_cached: bool) -> FileSystem:
    if layer is None:
        return FileSystem(key=key, chain=base.chain, layers=base.layers, is_cached=is_cached)
    return FileSystem(
        key=key,
        chain=layer.chain,
        layers=(*base.layers, layer),
        layer=layer,
        is_cached=is_cached,
    )
