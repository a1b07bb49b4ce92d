"""What `docker build --check` warns of. Pure.

The rules that need only the text look at the whole file at the end; the others are told, as the plan is made,
what each instruction expanded to.
"""

import re

from skiff.docker.dockerignore import Patterns
from skiff.engine.builds.dockerfile import instructions as of
from skiff.engine.builds.dockerfile import rules
from skiff.engine.builds.dockerfile.copies import cleaned, is_remote
from skiff.engine.builds.dockerfile.errors import Fault, suggestion
from skiff.engine.builds.dockerfile.expansion import Expansion
from skiff.engine.builds.dockerfile.parser import Line
from skiff.engine.builds.dockerfile.rules import Rule
from skiff.engine.builds.dockerfile.scope import PREDEFINED
from skiff.engine.builds.dockerfile.stages import Script, SourceStage
from skiff.engine.builds.dockerfile.steps import StageBuilder
from skiff.engine.builds.frontend import BuildOptions
from skiff.engine.builds.plan import LintWarning
from skiff.errors import InvalidParameter
from skiff.oci import reference as references

_SECRET = re.compile(
    r"(?:^|_)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)", re.I
)
_PUBLIC = re.compile(r"(?:^|_)public(?:_|$)", re.I)
_RESERVED = ("context", "scratch")


class Lint:
    """Collects warnings; `# check=` decides which of them are told."""

    def __init__(self, script: Script, options: BuildOptions) -> None:
        self.script = script
        self.options = options
        self.check = script.document.directives.check
        self.found: dict[tuple[str, str, int], LintWarning] = {}
        self.ignored = Patterns(options.ignored)
        self.defaults: dict[str, str] = {}  # global ARGs without what the person gave
        self.has_absolute_workdir: dict[int, bool] = {}
        self.has_shell = False
        self.current = -1

    def warn(self, rule: Rule, message: str, line: int) -> None:
        skipped = self.check.skip
        if rule.name in skipped or "all" in skipped:
            return
        if rule.experimental and not {rule.name, "all"} & self.check.experimental:
            return
        self.found[rule.name, message, line] = LintWarning(
            rule=rule.name, message=message, line=line, description=rule.description, url=rule.url
        )

    def warnings(self) -> tuple[LintWarning, ...]:
        return tuple(sorted(self.found.values(), key=lambda warning: warning.line))

    def finish(self) -> None:
        """The rules of the text."""
        for line in self.script.document.empty_continuations:
            self.warn(rules.NO_EMPTY_CONTINUATION, "Empty continuation line", line)
        self._casing()
        self._stages()
        for stage in self.script.stages:
            self._repeated(stage)

    def verdict(self) -> str:
        """What `error=true` makes of the warnings: the sentence that ends the build, or ""."""
        if not self.check.error or not self.found:
            return ""
        names = ", ".join(dict.fromkeys(warning.rule for warning in self.warnings()))
        return f"lint violation found for rules: {names}"

    # Rules of the text

    def _casing(self) -> None:
        lines = self.script.document.lines
        lower = sum(line.written == line.written.lower() for line in lines)
        upper = sum(line.written == line.keyword for line in lines)
        wanted = "lowercase" if lower > upper else "uppercase"
        for line in lines:
            right = line.written.lower() if lower > upper else line.keyword
            if line.written != right:
                message = f"Command '{line.written}' should match the case of the command majority ({wanted})"
                self.warn(rules.CONSISTENT_INSTRUCTION_CASING, message, line.first)

    def _stages(self) -> None:
        seen: set[str] = set()
        for argument in self.script.arguments:
            self._arg(argument, argument.line.first)
        for stage in self.script.stages:
            start, line = stage.start, stage.start.line.first
            name = start.name
            if not name:
                self._described(start.line, "FROM", "")
                continue
            self._described(start.line, "FROM", name)
            if name != name.lower():
                self.warn(rules.STAGE_NAME_CASING, f"Stage name '{name}' should be lowercase", line)
            if _case(start.as_word) != _case(start.line.written):
                message = f"'{start.as_word}' and '{start.line.written}' keywords' casing do not match"
                self.warn(rules.FROM_AS_CASING, message, line)
            if name.lower() in seen:
                message = f'Duplicate stage name "{name.lower()}", stage names should be unique'
                self.warn(rules.DUPLICATE_STAGE_NAME, message, line)
            if name.lower() in _RESERVED:
                message = f'Stage name should not use the same name as reserved stage "{name.lower()}"'
                self.warn(rules.RESERVED_STAGE_NAME, message, line)
            seen.add(name.lower())

    def _described(self, line: Line, keyword: str, name: str) -> None:
        """The comment right above an ARG or a named FROM describes it, and so begins with its name."""
        if not name or not line.comments:
            return
        comment = line.comments[-1]
        if not comment.startswith(f"{name} "):
            message = f"Comment for {keyword} should follow the format: `# {name} <description>`"
            self.warn(rules.INVALID_DEFINITION_DESCRIPTION, message, line.first)

    def _repeated(self, stage: SourceStage) -> None:
        """Of CMD, ENTRYPOINT and HEALTHCHECK only the last one of a stage counts."""
        last: dict[str, int] = {}
        for found in stage.instructions:
            keyword = found.line.keyword
            if keyword not in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
                continue
            if keyword in last:
                message = (
                    f"Multiple {keyword} instructions should not be used in the same stage because only"
                    " the last one will be used"
                )
                self.warn(rules.MULTIPLE_INSTRUCTIONS_DISALLOWED, message, last[keyword])
            last[keyword] = found.line.first

    # Rules of FROM

    def expanded(self, argument: of.Arg, expansion: Expansion) -> None:
        """A global ARG was declared."""
        own = Expansion({**self._platform(), **self.defaults})
        for pair in argument.pairs:
            if pair.value is not None:
                self.defaults[pair.name] = own.word(pair.value)
        self._undefined(expansion, argument.line.first, set())

    def _platform(self) -> dict[str, str]:
        return {f"{side}{name}": "x" for side in ("BUILD", "TARGET") for name in ("PLATFORM", "OS", "ARCH")}

    def started(self, stage: SourceStage, expansion: Expansion) -> None:
        """The variables of a FROM were expanded."""
        start, line = stage.start, stage.start.line.first
        names = list(self.defaults) + [pair.name for arg in self.script.arguments for pair in arg.pairs]
        for name in expansion.undefined:
            if name not in names:
                message = f"FROM argument '{name}' is not declared{suggestion(name, names)}"
                self.warn(rules.UNDEFINED_ARG_IN_FROM, message, line)
        if start.platform:
            self._platform_flag(start.platform, line)
        try:
            image = Expansion(self.defaults).word(start.image)
        except Fault:
            return
        if not _is_reference(image):
            message = f"Default value for ARG {start.image} results in empty or invalid base image name"
            self.warn(rules.INVALID_DEFAULT_ARG_IN_FROM, message, line)

    def _platform_flag(self, text: str, line: int) -> None:
        if text in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            message = (
                f"Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            )
            self.warn(rules.REDUNDANT_TARGET_PLATFORM, message, line)
        elif "$" not in text:
            message = f'FROM --platform flag should not use constant value "{text}"'
            self.warn(rules.FROM_PLATFORM_FLAG_CONST_DISALLOWED, message, line)

    # Rules of a stage's instructions

    def stage(self, stage: SourceStage, builder: StageBuilder) -> None:
        """A stage begins; one that begins from a stage inherits what was said of directories."""
        base = self.script.find(stage.start.image, before=stage.index)
        self.current = stage.index
        self.has_absolute_workdir[stage.index] = bool(base and self.has_absolute_workdir.get(base.index))
        self.has_shell = False

    def taken(self, found: of.Instruction, builder: StageBuilder, line: int, *, is_own: bool) -> None:
        """An instruction was expanded and has had its effect."""
        self._undefined(builder.expansion, line, set(builder.scope.arguments))
        if not is_own:
            return
        match found:
            case of.Arg():
                self._arg(found, line)
            case of.Env() | of.Label() if found.is_legacy:
                keyword = found.line.keyword
                message = (
                    f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
                )
                self.warn(rules.LEGACY_KEY_VALUE_FORMAT, message, line)
            case of.Workdir():
                self._workdir(found, builder, line)
            case of.Shell():
                self.has_shell = True
            case of.Cmd() | of.Entrypoint():
                if found.command.is_shell and not self.has_shell:
                    message = (
                        f"JSON arguments recommended for {found.line.written} to prevent unintended behavior"
                        " related to OS signals"
                    )
                    self.warn(rules.JSON_ARGS_RECOMMENDED, message, line)
            case of.Maintainer():
                message = "Maintainer instruction is deprecated in favor of using label"
                self.warn(rules.MAINTAINER_DEPRECATED, message, line)
            case of.Expose():
                self._expose(found, line)
            case of.Copy():
                self._copy(found, line)
            case _:
                pass
        if isinstance(found, of.Env):
            self._secrets("ENV", [pair.name for pair in found.pairs], line)

    def _arg(self, found: of.Arg, line: int) -> None:
        self._secrets("ARG", [pair.name for pair in found.pairs], line)
        for pair in found.pairs[:1]:
            self._described(found.line, "ARG", pair.name)

    def _secrets(self, keyword: str, names: list[str], line: int) -> None:
        for name in names:
            if _SECRET.search(name) and not _PUBLIC.search(name):
                message = f'Do not use ARG or ENV instructions for sensitive data ({keyword} "{name}")'
                self.warn(rules.SECRETS_USED_IN_ARG_OR_ENV, message, line)

    def _workdir(self, found: of.Workdir, builder: StageBuilder, line: int) -> None:
        text = builder.expansion.word(found.path)
        if text.startswith("/"):
            self.has_absolute_workdir[self.current] = True
        elif not self.has_absolute_workdir[self.current]:
            message = f'Relative workdir "{text}" can have unexpected results if the base image changes'
            self.warn(rules.WORKDIR_RELATIVE_PATH, message, line)

    def _expose(self, found: of.Expose, line: int) -> None:
        for port in found.ports:
            address, _, protocol = port.partition("/")
            if protocol != protocol.lower():
                message = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                self.warn(rules.EXPOSE_PROTO_CASING, message, line)
            if ":" in address and "$" not in address:
                message = (
                    f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                )
                self.warn(rules.EXPOSE_INVALID_FORMAT, message, line)

    def _copy(self, found: of.Copy, line: int) -> None:
        if found.origin:
            return
        keyword = found.line.keyword.capitalize()
        for source in found.sources:
            path = cleaned(source, keeps_pivot=False)
            if "$" in source or is_remote(source) or path == ".":
                continue
            if self.ignored.excludes(path):
                message = f'Attempting to {keyword} file "{source}" that is excluded by .dockerignore'
                self.warn(rules.COPY_IGNORED_FILE, message, line)

    def _undefined(self, expansion: Expansion, line: int, declared: set[str]) -> None:
        """An ARG without a value is declared all the same."""
        for name in expansion.undefined:
            if name in PREDEFINED or name in declared:
                continue
            hint = suggestion(name, expansion.variables)
            hint = hint.replace("(did you mean ", "(did you mean $") if hint else ""
            self.warn(rules.UNDEFINED_VAR, f"Usage of undefined variable '${name}'{hint}", line)


def _case(word: str) -> str:
    return "upper" if word.isupper() else "lower" if word.islower() else word


def _is_reference(image: str) -> bool:
    try:
        references.parse(image)
    except InvalidParameter:
        return False
    return True
