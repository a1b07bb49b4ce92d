"""cap-add, cap-drop, privileged, security-opt, device rules: what the container may do. Pure."""

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from skiff.errors import InvalidParameter, NotImplementedHere
from skiff.linux.capabilities import NAMES
from skiff.oci import runtime as oci


def normal_capabilities(field: str, asked: Iterable[str] | None) -> list[str]:
    """Upper case with CAP_, `ALL` as it is. field: CapAdd or CapDrop, for the error. InvalidParameter."""
    names = []
    for name in asked or ():
        upper = name.upper()
        if upper in ("ALL", "CAP_ALL"):
            upper = "ALL"
        elif not upper.startswith("CAP_"):
            upper = "CAP_" + upper
        if upper != "ALL" and upper not in NAMES:
            raise InvalidParameter(f'invalid {field}: unknown capability: "{upper}"')
        names.append(upper)
    return names


def capabilities(
    *,
    add: Iterable[str] | None,
    drop: Iterable[str] | None,
    privileged: bool,
    defaults: Sequence[str],
    available: Sequence[str],
) -> tuple[str, ...]:
    """The bounding set, sorted as the kernel numbers them. available: what this engine itself may grant.

    `ALL` in add grants all but what is dropped by name; `ALL` in drop keeps only what is added by name.
    """
    adds, drops = normal_capabilities("CapAdd", add), normal_capabilities("CapDrop", drop)
    if privileged:
        granted = set(available)
    elif "ALL" in adds:
        granted = set(available) - set(drops)
    elif "ALL" in drops:
        granted = set(adds)
    else:
        granted = (set(defaults) - set(drops)) | set(adds)
    may = set(available)
    return tuple(name for name in NAMES if name in granted and name in may)


class SecurityOptions(Struct, frozen=True):
    """The security-opts, read. seccomp: empty, `unconfined`, `builtin`, or a profile's JSON text."""

    no_new_privileges: bool | None = None
    seccomp: str = ""
    apparmor: str = ""
    labels: tuple[str, ...] = ()
    systempaths_unconfined: bool = False
    writable_cgroups: bool | None = None


def security_options(asked: Iterable[str] | None) -> SecurityOptions:
    """InvalidParameter for what is unknown or malformed.

    option := "no-new-privileges"[("="|":") bool] | "systempaths=unconfined" | "writable-cgroups"["=" bool]
            | ("seccomp"|"apparmor"|"label") ("="|":") value
    """
    found: dict[str, object] = {}
    labels: list[str] = []
    for option in asked or ():
        key, value = _split(option)
        match key:
            case "no-new-privileges":
                found["no_new_privileges"] = _truth(option, value)
            case "writable-cgroups":
                found["writable_cgroups"] = _truth(option, value)
            case "disable" if not value:
                labels.append("disable")
            case "systempaths" if value == "unconfined":
                found["systempaths_unconfined"] = True
            case "seccomp" | "apparmor" if value:
                found[key] = value
            case "label" if value:
                labels.append(value)
            case _ if not value and "=" not in option and ":" not in option:
                raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
            case _:
                raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(labels=tuple(labels), **found)  # type: ignore[arg-type]


def _split(option: str) -> tuple[str, str]:
    # `=` is today's, `:` the older separator
    key, equals, value = option.partition("=")
    if not equals or ":" in key:
        key, _, value = option.partition(":")
    return key, value


def _truth(option: str, value: str) -> bool:
    if value.lower() in ("", "true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise InvalidParameter(f'invalid --security-opt 2: "{option}"')


def check_modules(options: SecurityOptions, *, apparmor: bool, selinux: bool) -> None:
    """NotImplementedHere when a profile is asked for that this engine would have to apply, and does not."""
    if apparmor and options.apparmor not in ("", "unconfined"):
        raise NotImplementedHere(f"apparmor profile {options.apparmor!r}: skiff applies no AppArmor profiles")
    if selinux and any(label != "disable" for label in options.labels):
        raise NotImplementedHere("skiff applies no SELinux labels: use label=disable")


_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")


def device_rule(text: str) -> oci.DeviceRule:
    """`c 1:3 mr`. InvalidParameter.

    rule := ("a"|"c"|"b") " " (number|"*") ":" (number|"*") " " one to three of "rwm"
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    return oci.DeviceRule(
        allow=True,
        type=match[1],
        major=None if match[2] == "*" else int(match[2]),
        minor=None if match[3] == "*" else int(match[3]),
        access=match[4],
    )


def device_rules(
    *,
    devices: Iterable[tuple[oci.Device, str]],
    asked: Iterable[str] | None,
    defaults: Sequence[oci.DeviceRule],
    privileged: bool,
) -> tuple[oci.DeviceRule, ...]:
    """The device cgroup, first to last. devices: each with the access it is mapped with (`rwm`)."""
    if privileged:
        return (oci.DeviceRule(allow=True, access="rwm"),)
    mapped = [
        oci.DeviceRule(allow=True, type=node.type, major=node.major, minor=node.minor, access=access)
        for node, access in devices
    ]
    return (*defaults, *mapped, *(device_rule(rule) for rule in asked or ()))
