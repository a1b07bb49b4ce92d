"""Which variables are in force: global ARGs, a stage's own, predefined ones, the environment. Pure."""

from collections.abc import Mapping

from skiff.engine.builds.dockerfile import instructions as of
from skiff.engine.builds.dockerfile.expansion import Expansion
from skiff.engine.builds.frontend import BuildOptions
from skiff.oci.platform import Platform

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
ENGINES = frozenset(["BUILDKIT_INLINE_CACHE", "SOURCE_DATE_EPOCH"])  # arguments that are meant for the engine
PREDEFINED = frozenset([*PROXIES, *(name.lower() for name in PROXIES)])


def platform_arguments(options: BuildOptions, target: Platform, stage: str) -> dict[str, str]:
    """BUILDPLATFORM, TARGETARCH and their kin: global, and a stage's when it declares them."""
    found = {"TARGETSTAGE": stage or "default"}
    for prefix, platform in (("BUILD", options.host), ("TARGET", target)):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant or ""
    return found


class GlobalScope:
    """The ARGs above the first FROM: what FROM lines see, and where a stage's ARG finds its default."""

    def __init__(self, options: BuildOptions, platform: Mapping[str, str]) -> None:
        self.given = {name: value for name, value in options.build_args.items() if value is not None}
        self.platform = dict(platform)
        self.values = {**self.platform}
        self.declared: dict[str, str | None] = {}
        for name in PREDEFINED & self.given.keys():
            self.values[name] = self.given[name]

    def declare(self, arg: of.Arg, escape: str) -> Expansion:
        """Takes the ARG into force; the expansion tells what was undefined. Fault."""
        expansion = Expansion(self.values, escape)
        for pair in arg.pairs:
            name = expansion.word(pair.name)
            value = self.given.get(name)
            if value is None and pair.value is not None:
                value = expansion.word(pair.value)
            if value is None:
                value = self.platform.get(name)
            self.declared[name] = value
            if value is not None:
                self.values[name] = value
        return expansion


class StageScope:
    """A stage's variables: the environment, then ARGs and ENVs in the order in which they came."""

    def __init__(
        self, outer: GlobalScope, environment: Mapping[str, str], inherited: "StageScope | None"
    ) -> None:
        self.outer = outer
        self.values: dict[str, str] = dict(inherited.values if inherited else environment)
        self.arguments: dict[str, None] = dict(inherited.arguments if inherited else {})

    def expansion(self, escape: str) -> Expansion:
        return Expansion(self.values, escape)

    def argument(self, name: str, default: str | None) -> str | None:
        """Declares an ARG; its value now, None when it has none.

        A value that was given wins over the default; the global ARG counts only where there is no default.
        """
        value = self.outer.given.get(name)
        if value is None:
            value = default
        if value is None:
            value = self.outer.declared.get(name)
        if value is None:
            value = self.outer.platform.get(name)
        self.arguments[name] = None
        if value is not None:
            self.values[name] = value
        return value

    def counted(self) -> list[str]:
        """`name=value` of every ARG in force, as history shows them."""
        return [f"{name}={self.values.get(name, '')}" for name in self.arguments]

    def hidden(self) -> tuple[str, ...]:
        """The proxies that were given without an ARG for them."""
        return tuple(
            f"{name}={self.outer.given[name]}"
            for name in sorted(PREDEFINED & self.outer.given.keys())
            if name not in self.arguments
        )
