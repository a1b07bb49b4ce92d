"""A Dockerfile → a Plan. Pure: names the base images whose configs it lacks, and is asked again.

parse ─► stages ─► those the target needs, in order ─► ops and steps of each ─► lint
"""

from collections.abc import Mapping

from msgspec.structs import replace

from skiff.engine.builds.dockerfile import instructions as of
from skiff.engine.builds.dockerfile.errors import DockerfileError, Fault
from skiff.engine.builds.dockerfile.expansion import Expansion
from skiff.engine.builds.dockerfile.labels import Labels
from skiff.engine.builds.dockerfile.lint import Lint
from skiff.engine.builds.dockerfile.parser import Line, parse
from skiff.engine.builds.dockerfile.reading import triggers
from skiff.engine.builds.dockerfile.scope import (
    ENGINES,
    PREDEFINED,
    GlobalScope,
    StageScope,
    platform_arguments,
)
from skiff.engine.builds.dockerfile.stages import Script, SourceStage, in_order, origins, script, stage_of
from skiff.engine.builds.dockerfile.steps import StageBuilder
from skiff.engine.builds.frontend import BuildOptions, Checked
from skiff.engine.builds.plan import (
    BaseImage,
    MetaOp,
    Missing,
    Op,
    OpIndex,
    Plan,
    SourceOp,
    Stage,
    Step,
)
from skiff.errors import InvalidParameter
from skiff.oci import platform as platforms
from skiff.oci import reference as references
from skiff.oci.image import ImageConfig, RootFS, RunConfig
from skiff.oci.platform import Platform

SCRATCH = "scratch"
HOST = "host"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class DockerfileFrontend:
    """The Frontend of Dockerfiles."""

    def plan(
        self, source: bytes, options: BuildOptions, known: Mapping[BaseImage, ImageConfig]
    ) -> Plan | Missing:
        """InvalidParameter, as DockerfileError: file, line, column and the line itself."""
        whole = script(parse(source, options.filename))
        return _Planner(whole, options, known).plan()

    def check(
        self, source: bytes, options: BuildOptions, known: Mapping[BaseImage, ImageConfig]
    ) -> Checked | Missing:
        """What the lint finds in the whole file: the stages too that no target needs. InvalidParameter."""
        whole = script(parse(source, options.filename))
        planner = _Planner(whole, options, known)
        found = planner.plan(every_stage=True)
        return found if isinstance(found, Missing) else Checked(found.warnings, planner.lint.verdict())


class _Start:
    """What a FROM means once its variables are known: a stage, an image, scratch or a named context."""

    def __init__(self, image: str, platform: Platform, stage: SourceStage | None) -> None:
        self.image = image
        self.platform = platform
        self.stage = stage

    @property
    def brings_image(self) -> bool:
        return self.stage is None and self.image.lower() != SCRATCH


class _Planner:
    """One planning. It is the `Sources` of its stage builders."""

    def __init__(self, whole: Script, options: BuildOptions, known: Mapping[BaseImage, ImageConfig]) -> None:
        self.script = whole
        self.document = whole.document
        self.options = options
        self.known = known
        self.platform = options.platform or options.host
        self.escape = self.document.directives.escape
        self.ops: list[Op] = []
        self.indices: dict[Op, OpIndex] = {}
        self.starts: dict[int, _Start] = {}
        self.missing: dict[BaseImage, Line] = {}  # and the FROM that asks for it first
        self.stages: tuple[SourceStage, ...] = ()
        self.bodies: dict[int, list[of.Instruction]] = {}
        self.finished: dict[int, tuple[Stage, StageBuilder]] = {}
        self.current_platform = self.platform
        self.lint = Lint(whole, options)

    def plan(self, *, every_stage: bool = False) -> Plan | Missing:
        target = self.script.target(self.options.target)
        self.stages = self.script.stages[: target.index + 1]  # until it is known which of them are needed
        self.scope = GlobalScope(
            self.options, platform_arguments(self.options, self.platform, self.options.target)
        )
        for argument in self.script.arguments:
            self._global(argument)
        ordered = in_order([*(self.script.stages if every_stage else ()), target], self._needs, self.script)
        self.stages = tuple(ordered)
        if self.missing:
            wanted = sorted(self.missing.items(), key=lambda item: item[1].first)
            return Missing(
                tuple(image for image, _ in wanted), tuple(self._headings(line) for _, line in wanted)
            )
        counted = len(self.script.arguments)
        for stage in ordered:
            counted = self._stage(stage, counted)
        self.lint.finish()
        if not every_stage and (verdict := self.lint.verdict()):
            raise DockerfileError(verdict)
        return Plan(
            ops=tuple(self.ops),
            arguments=tuple(argument.line.text for argument in self.script.arguments),
            stages=tuple(self.finished[stage.index][0] for stage in ordered),
            total=counted,
            warnings=self.lint.warnings(),
            unused_build_args=self._unused(),
        )

    # Which stages, and what they begin from

    def _global(self, argument: of.Arg) -> None:
        try:
            expansion = self.scope.declare(argument, self.escape)
        except Fault as fault:
            raise self._error(fault, argument.line) from None
        self.lint.expanded(argument, expansion)

    def _needs(self, stage: SourceStage) -> list[SourceStage]:
        try:
            start = self._start(stage)
            self.starts[stage.index] = start
            body = [*self._triggers(start), *stage.instructions]
        except Fault as fault:
            raise self._error(fault, stage.start.line) from None
        self.bodies[stage.index] = body
        found = [] if start.stage is None else [start.stage]
        for name, line in origins(body).items():
            try:
                other = stage_of(self.script, name, self.options.contexts)
            except Fault as fault:
                raise self._error(fault, line) from None
            if other is not None:
                found.append(other)
        return found

    def _headings(self, line: Line) -> tuple[str, ...]:
        return self.script.headings(self.stages, line, len(self.options.labels))

    def _error(self, fault: Fault, line: Line) -> DockerfileError:
        return self.document.error(fault, line, self._headings(line))

    def _start(self, stage: SourceStage) -> _Start:
        """What the stage begins from; notes an image whose config is not known. Fault."""
        expansion = Expansion(self.scope.values, self.escape)
        image = expansion.word(stage.start.image)
        platform = self._platform(stage.start, expansion)
        self.lint.started(stage, expansion)
        if not image:
            raise Fault(f"base name ({stage.start.image}) should not be blank", near=stage.start.image)
        context = self._context(image)
        if context is not None:
            if context:
                self._want(BaseImage(context, platform), stage.start.line)
            return _Start(image, platform, None)
        base = self.script.find(image, before=stage.index)
        if base is None and image.lower() != SCRATCH:
            self._want(BaseImage(image, platform), stage.start.line)
        return _Start(image, platform, base)

    def _platform(self, start: of.From, expansion: Expansion) -> Platform:
        if not start.platform:
            return self.platform
        text = expansion.word(start.platform)
        if not text:
            raise Fault(f'empty platform value from expression "{start.platform}"', near=start.platform)
        try:
            return platforms.parse(text, self.options.host)
        except InvalidParameter as error:
            raise Fault(f"failed to parse platform {text}: {error}", near=start.platform) from None

    def _want(self, image: BaseImage, line: Line) -> None:
        if image in self.known:
            return
        if image.ref != HOST:
            try:
                references.parse(image.ref)
            except InvalidParameter as error:
                raise Fault(str(error), near=image.ref) from None
        self.missing.setdefault(image, line)

    def _context(self, name: str) -> str | None:
        """What a named build context is: an image reference, "" for a tree, None when there is none."""
        for known, value in self.options.contexts.items():
            if known.lower() == name.lower():
                return value
        return None

    def _triggers(self, start: _Start) -> list[of.Instruction]:
        """The ONBUILD instructions of what a stage begins from; they come first. Fault."""
        if start.stage is not None:
            own = [found.trigger for found in start.stage.instructions if isinstance(found, of.Onbuild)]
            return list(triggers(tuple(own)))
        config = self._config_of(start)
        return list(triggers(config.run.on_build or ())) if config else []

    def _config_of(self, start: _Start) -> ImageConfig | None:
        ref = self._context(start.image)
        ref = start.image if ref is None else ref
        return self.known.get(BaseImage(ref, start.platform))

    # The ops of one stage

    def add(self, op: Op) -> OpIndex:
        """The place of an op; the same op has one place."""
        index = self.indices.get(op)
        if index is None:
            index = OpIndex(len(self.ops))
            self.ops.append(op)
            self.indices[op] = index
        return index

    def origin(self, name: str) -> OpIndex:
        if not name:
            return self.add(SourceOp(kind="context"))
        stage = stage_of(self.script, name, self.options.contexts)
        if stage is not None:
            return self.finished[stage.index][0].output
        return self._outside(name, self.current_platform)

    def _outside(self, name: str, platform: Platform) -> OpIndex:
        context = self._context(name)
        if context == "":
            return self.add(SourceOp(kind="context", name=name))
        ref = context or name
        if ref.lower() == SCRATCH:
            return self.add(SourceOp(kind="scratch"))
        if ref != HOST:
            try:
                references.parse(ref)
            except InvalidParameter as error:
                raise Fault(f"invalid from flag value {ref}: {error}", near=ref) from None
        return self.add(SourceOp(kind="image", name=ref, platform=platform))

    def _stage(self, stage: SourceStage, counted: int) -> int:
        """Plans one stage; the number of its last step."""
        start = self.starts[stage.index]
        body = self.bodies[stage.index]
        self.current_platform = start.platform
        builder, image = self._begin(stage, start)
        root = builder.files
        self.lint.stage(stage, builder)
        counted += 1
        label = Labels(stage, body, alone=len(self.script.stages) == 1, begins_outside=start.brings_image)
        steps = [self._first_step(stage, start, builder, root, counted, label)]
        own = set(map(id, stage.instructions))
        for found in body:
            is_own = id(found) in own
            line = found.line if is_own else stage.start.line  # a trigger has no other place in this file
            try:
                builder.take(found)
            except Fault as fault:
                message = fault if is_own else Fault(f"ONBUILD {found.line.text}: {fault.message}")
                raise self._error(message, line) from None
            self.lint.taken(found, builder, line.first, is_own=is_own)
            counted += is_own
            text = found.line.text
            steps.append(
                Step(
                    number=counted if is_own else 0,
                    text=text,
                    name=label.next(found, text, changes_files=builder.changes_files, is_own=is_own),
                    line=line.first,
                    op=builder.op,
                    stage=stage.index,
                    config=builder.config,
                    author=builder.author,
                    history=tuple(builder.history),
                )
            )
        config = builder.config
        if stage.index == self.script.target(self.options.target).index:
            for name, value in sorted(self.options.labels.items()):  # --label: a step each, without history
                counted += 1
                text = f"LABEL {name}={value}"
                config = replace(config, labels={**(config.labels or {}), name: value})
                steps.append(
                    Step(
                        number=counted,
                        text=text,
                        name=text,
                        line=stage.start.line.first,
                        op=self.add(MetaOp(input=builder.files, statement=text)),
                        stage=stage.index,
                        config=config,
                        author=builder.author,
                    )
                )
        added = tuple(entry for step in steps for entry in step.history)
        planned = Stage(
            index=stage.index,
            name=stage.name,
            platform=start.platform,
            root=root,
            output=builder.files,
            steps=tuple(steps),
            image=replace(
                image,
                author=builder.author or image.author,
                config=config,
                history=(*image.steps, *added),
            ),
        )
        self.finished[stage.index] = (planned, builder)
        return counted

    def _first_step(
        self,
        stage: SourceStage,
        start: _Start,
        builder: StageBuilder,
        root: OpIndex,
        number: int,
        label: Labels,
    ) -> Step:
        return Step(
            number=number,
            text=stage.start.line.text,
            name=label.first(start.image),
            line=stage.start.line.first,
            op=root,
            stage=stage.index,
            config=builder.config,
            author=builder.author,
        )

    def _begin(self, stage: SourceStage, start: _Start) -> tuple[StageBuilder, ImageConfig]:
        inherited: StageScope | None = None
        author = ""
        if start.stage is not None:
            before, other = self.finished[start.stage.index]
            image, files, inherited, author = before.image, before.output, other.scope, other.author
            image = replace(image, config=replace(image.run, on_build=None))
        else:
            config = self._config_of(start)
            image = config if config is not None else _empty_image(start.platform)
            image = replace(image, build_cache=None)
            author = image.author or ""
            if image.config is not None:
                image = replace(image, config=replace(image.run, on_build=None))
            scratch = start.image.lower() == SCRATCH and self._context(start.image) is None
            files = (
                self.add(SourceOp(kind="scratch")) if scratch else self._outside(start.image, start.platform)
            )
        environment = dict(entry.partition("=")[::2] for entry in image.run.env or ())
        builder = StageBuilder(
            self,
            StageScope(self.scope, environment, inherited),
            files,
            image.run,
            escape=self.escape,
            network=self.options.network,
            ignore_cache=self._ignores_cache(stage),
        )
        builder.author = author
        return builder, image

    def _ignores_cache(self, stage: SourceStage) -> bool:
        names = self.options.ignore_cache
        if names is None:
            return False
        return not names or bool({stage.name, str(stage.index)} & {name.lower() for name in names} - {""})

    def _unused(self) -> tuple[str, ...]:
        """The build arguments that no ARG asks for, wherever it stands."""
        declared = set(self.scope.declared) | ENGINES | PREDEFINED | self.scope.platform.keys()
        for stage in self.script.stages:
            for found in stage.instructions:
                if isinstance(found, of.Arg):
                    declared.update(pair.name for pair in found.pairs)
        for _, builder in self.finished.values():
            declared.update(builder.scope.arguments)
        return tuple(sorted(self.options.build_args.keys() - declared))


def _empty_image(platform: Platform) -> ImageConfig:
    return ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        rootfs=RootFS(),
        config=RunConfig(env=(DEFAULT_PATH,), working_dir="/"),
    )
