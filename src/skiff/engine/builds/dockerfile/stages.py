"""A Dockerfile cut into stages, and which of them a target needs. Pure.

A stage depends on the stage it begins from and on those that COPY --from and RUN --mount name.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from skiff.engine.builds.dockerfile import instructions as of
from skiff.engine.builds.dockerfile.errors import DockerfileError, Fault, suggestion
from skiff.engine.builds.dockerfile.mounts import origin_of
from skiff.engine.builds.dockerfile.parser import Document, Line
from skiff.engine.builds.dockerfile.reading import instruction

_NUMBER = re.compile(r"\d+")


class SourceStage(Struct, frozen=True):
    """A FROM and what follows, as written. index: in the file, from 0."""

    index: int
    start: of.From
    instructions: tuple[of.Instruction, ...]

    @property
    def name(self) -> str:
        return self.start.name.lower()

    @property
    def lines(self) -> tuple[Line, ...]:
        """One for each step."""
        return (self.start.line, *(found.line for found in self.instructions))

    @property
    def shown(self) -> str:
        """`build`, or `stage-2` for one without a name."""
        return self.name or f"stage-{self.index}"


class Script(Struct, frozen=True):
    """The whole file. arguments: the ARGs before the first FROM."""

    document: Document
    arguments: tuple[of.Arg, ...]
    stages: tuple[SourceStage, ...]

    def find(self, name: str, before: int | None = None) -> SourceStage | None:
        """The stage that a name or a number means; the last one of that name, above `before` when given."""
        candidates = self.stages if before is None else self.stages[:before]
        for stage in reversed(candidates):
            if stage.name and stage.name == name.lower():
                return stage
        return None

    def target(self, name: str) -> SourceStage:
        """The stage that --target names; "" is the last. DockerfileError."""
        if not name:
            return self.stages[-1]
        if _NUMBER.fullmatch(name) and int(name) < len(self.stages):
            return self.stages[int(name)]
        stage = self.find(name)
        if stage is None:
            hint = suggestion(name, [stage.name for stage in self.stages if stage.name])
            raise DockerfileError(f'target stage "{name}" could not be found{hint}')
        return stage

    def headings(self, stages: Sequence[SourceStage], at: Line, more: int = 0) -> tuple[str, ...]:
        """`Step 1/4 : ARG A` of every argument before the stages, then that of the line `at`.

        stages: those that are built, in order. more: steps that come after them.
        """
        arguments = [argument.line for argument in self.arguments]
        lines = [*arguments, *(line for stage in stages for line in stage.lines)]
        shown = [*arguments, *([at] if at in lines and at not in arguments else [])]
        total = len(lines) + more
        return tuple(f"Step {lines.index(line) + 1}/{total} : {line.text}" for line in shown)


def script(document: Document) -> Script:
    """The lines as typed stages. DockerfileError."""
    arguments: list[of.Arg] = []
    starts: list[of.From] = []
    bodies: list[list[of.Instruction]] = []
    for line in document.lines:
        try:
            found = instruction(line)
            if isinstance(found, of.From):
                starts.append(found)
                bodies.append([])
            elif bodies:
                bodies[-1].append(found)
            elif isinstance(found, of.Arg):
                arguments.append(found)
            else:
                raise Fault("no build stage in current context", near=line.written)
        except Fault as fault:
            raise document.error(fault, line) from None
    stages = [
        SourceStage(index, start, tuple(body))
        for index, (start, body) in enumerate(zip(starts, bodies, strict=True))
    ]
    if not stages:
        raise DockerfileError("dockerfile contains no stages to build")
    return Script(document, tuple(arguments), tuple(stages))


def origins(instructions: Sequence[of.Instruction]) -> dict[str, Line]:
    """The names that COPY --from and --mount=from= say, in order, each with the line that says it first."""
    names: dict[str, Line] = {}
    for found in instructions:
        if isinstance(found, of.Copy) and found.origin:
            names.setdefault(found.origin, found.line)
        elif isinstance(found, of.Run):
            for text in found.mounts:
                name = origin_of(text)
                if name:
                    names.setdefault(name, found.line)
    return names


def stage_of(script: Script, name: str, contexts: Mapping[str, str]) -> SourceStage | None:
    """The stage that an origin means; None when it means an image or a context. Fault."""
    if name.lower() in {known.lower() for known in contexts}:
        return None
    if _NUMBER.fullmatch(name):
        if len(name) > 6 or int(name) >= len(script.stages):
            raise Fault(f"invalid from flag value {name}: index out of bounds", near=name)
        return script.stages[int(name)]
    return script.find(name)


def in_order(
    wanted: Sequence[SourceStage], needs: Callable[[SourceStage], Sequence[SourceStage]], script: Script
) -> list[SourceStage]:
    """The wanted stages and all that they need, each after those it needs. DockerfileError: a circle."""
    ordered: list[SourceStage] = []
    done: set[int] = set()
    waiting: dict[int, list[SourceStage]] = {}  # of those on the path: what they still need
    for first in wanted:
        path = [] if first.index in done else [first]
        while path:
            stage = path[-1]
            if stage.index not in waiting:
                waiting[stage.index] = list(needs(stage))
            if not waiting[stage.index]:
                done.add(stage.index)
                ordered.append(path.pop())
                continue
            following = waiting[stage.index].pop(0)
            if following.index in done:
                continue
            if following.index in waiting:
                fault = Fault(f"circular dependency detected on stage: {following.shown}")
                raise script.document.error(fault, stage.start.line)
            path.append(following)
    return ordered
