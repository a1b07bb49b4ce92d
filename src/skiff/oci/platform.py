"""Platforms: os/architecture/variant, their many spellings, and which one serves which machine. Pure.

OCI image-spec 1.1, image-index.md § Platform Variants.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from skiff.errors import InvalidParameter

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "loongarch64": ("loong64", ""),
}
_IMPLIED_VARIANT = {"arm64": "v8", "amd64": "v1"}  # said or unsaid, the same platform
_PART = re.compile(r"[A-Za-z0-9_.-]+")
# What Go can compile for, and so what one word alone can mean.
_OPERATING_SYSTEMS = {
    *("aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl"),
    *("netbsd", "openbsd", "plan9", "solaris", "windows", "zos"),
}
_PROCESSORS = {
    *("386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64"),
    *("mips64le", "mips64p32", "mips64p32le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390"),
    *("s390x", "sparc", "sparc64", "wasm"),
}


class Platform(Struct, frozen=True, omit_defaults=True):
    """As in a descriptor. os_version and os_features only matter to Windows."""

    architecture: str = ""
    os: str = ""
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def normalise(platform: Platform) -> Platform:
    """The same platform in Go's words: `x86_64` is amd64, `armhf` is arm/v7, arm64/v8 is arm64."""
    architecture = platform.architecture.lower()
    variant = (platform.variant or "").lower()
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant or implied
    if variant.isdigit():
        variant = f"v{variant}"
    if _IMPLIED_VARIANT.get(architecture) == variant:
        variant = ""
    if architecture == "arm" and not variant:
        variant = "v7"
    os = {"macos": "darwin"}.get(platform.os.lower(), platform.os.lower())
    return Platform(architecture=architecture, os=os, variant=variant or None)


def of_machine(machine: str) -> Platform:
    """The platform of a Linux kernel whose uname(2) machine field reads so."""
    return normalise(Platform(architecture=machine, os="linux"))


def parse(text: str, host: Platform) -> Platform:
    """The platform that text asks for; what it leaves out is the host's. InvalidParameter.

    platform := os | architecture | os "/" architecture ["/" variant]
    """
    parts = text.split("/")
    for part in parts:
        if not _PART.fullmatch(part):
            raise InvalidParameter(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                f'"^{_PART.pattern}$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    match parts:
        case [one] if one.lower() in _OPERATING_SYSTEMS or one.lower() == "macos":
            return normalise(Platform(architecture=host.architecture, os=one, variant=host.variant))
        case [one] if normalise(Platform(architecture=one, os=host.os)).architecture in _PROCESSORS:
            return normalise(Platform(architecture=one, os=host.os))
        case [_]:
            raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
        case [os, architecture]:
            return normalise(Platform(architecture=architecture, os=os))
        case _:
            return normalise(Platform(architecture=parts[1], os=parts[0], variant=parts[2]))


def serves(platform: Platform, wanted: Platform) -> bool:
    """Whether an image for platform runs where one for wanted is asked for."""
    return normalise(platform) in [normalise(one) for one in served_by(wanted)]


def served_by(wanted: Platform) -> Iterator[Platform]:
    """The platforms whose programs run on the wanted one, the best first, wanted itself at the head.

    An arm/v7 machine runs v6 and v5; amd64/v3 runs v2 and v1. A 32-bit sibling is not offered.
    """
    wanted = normalise(wanted)
    yield wanted
    lowest = {"arm": 5, "amd64": 1, "arm64": 8}.get(wanted.architecture)
    digits = (wanted.variant or "").removeprefix("v")
    if lowest is None or not digits.isdigit():
        return
    for level in range(int(digits) - 1, lowest - 1, -1):
        yield normalise(Platform(architecture=wanted.architecture, os=wanted.os, variant=f"v{level}"))
