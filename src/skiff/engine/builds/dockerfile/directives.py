"""Parser directives: the `# name=value` lines before anything else. Pure.

    directives := { "#" name "=" value NEWLINE }      name: letters, digits, - _ ; known: syntax escape check

The first line that is no directive ends them, an ordinary comment too.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from skiff.engine.builds.dockerfile.errors import Fault, located

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(.+?)\s*")
_KNOWN = ("syntax", "escape", "check")


class Check(Struct, frozen=True):
    """`# check=skip=A,B;error=true`. skip holds rule names; "all" skips every one."""

    skip: frozenset[str] = frozenset()
    error: bool = False
    experimental: frozenset[str] = frozenset()


class Directives(Struct, frozen=True):
    """syntax is kept as written: this parser speaks all the syntaxes that are named there."""

    syntax: str = ""
    escape: str = "\\"
    check: Check = Check()


def directives(lines: Sequence[str], filename: str = "Dockerfile") -> Directives:
    """What the head of the file says. DockerfileError: repeated, or a value that means nothing."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in _KNOWN:
            break
        if name in found:
            fault = Fault(f"only one {name} parser directive can be used", kind="syntax")
            raise located(fault, lines, number, number, filename)
        found[name] = match[2]
        try:
            _examine(name, match[2])
        except Fault as fault:
            raise located(fault, lines, number, number, filename) from None
    return Directives(
        syntax=found.get("syntax", ""), escape=found.get("escape", "\\"), check=check(found.get("check", ""))
    )


def _examine(name: str, value: str) -> None:
    if name == "escape" and value not in ("\\", "`"):
        raise Fault(f"invalid escape token '{value}' does not match ` or \\", kind="syntax", near=value)
    if name == "check":
        check(value)


def check(text: str) -> Check:
    """The options of the lint. Fault."""
    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error = False
    for option in text.split(";"):
        if not option.strip():
            continue
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals:
            raise Fault(f'failed to parse check options: invalid check option "{key}"', near=key)
        names = frozenset(name.strip() for name in value.split(",") if name.strip())
        match key:
            case "skip":
                skip = names
            case "experimental":
                experimental = names
            case "error":
                if value.lower() not in ("true", "false", "1", "0", "t", "f"):
                    raise Fault(
                        f'failed to parse check options: invalid boolean "{value}" for error', near=value
                    )
                error = value.lower() in ("true", "1", "t")
            case _:
                raise Fault(f'failed to parse check options: invalid check option "{key}"', near=key)
    return Check(skip=skip, error=error, experimental=experimental)
