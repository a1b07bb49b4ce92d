"""-v, --mount, --tmpfs and --device of `run`: text → the shapes of the Engine API. Pure."""

from __future__ import annotations

from skiff.cli.flags import parse_bool, parse_bytes, parse_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def absolute(path: str, *, cwd: str, home: str) -> str:
    """A path with `~`, `.` and `..` resolved by text alone."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    if not path.startswith("/"):
        path = f"{cwd}/{path}"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def volumes(specs: Sequence[str], *, cwd: str, home: str) -> tuple[list[str], dict[str, Any]]:
    """-v flags → (Binds, Volumes). A source that looks like a path is made absolute; a name is left alone."""
    binds: list[str] = []
    anonymous: dict[str, Any] = {}
    for spec in specs:
        if not spec:
            raise ValueError("invalid empty volume spec")
        source, colon, rest = spec.partition(":")
        _check_sections(spec)
        if not colon:
            anonymous[spec] = {}
        elif source[:1] in (".", "~", "/"):
            binds.append(f"{absolute(source, cwd=cwd, home=home)}:{rest}")
        else:
            binds.append(spec)
    return binds, anonymous


def _check_sections(spec: str) -> None:
    """ValueError as docker words it: a letter before a colon is a drive there. The engine judges the rest."""
    if len(spec) < 3:
        return
    sections = iter(spec.split(":"))
    for at, section in enumerate(sections):
        if at > 2:
            raise ValueError(f"invalid spec: {spec}: too many colons")
        if len(section) == 1 and section.isalpha():
            next(sections, None)
        elif not section:
            raise ValueError(f"invalid spec: {spec}: empty section between colons")


def tmpfs(specs: Sequence[str]) -> dict[str, str]:
    return {path: options for path, _, options in (spec.partition(":") for spec in specs)}


_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_BOOLEAN = {"readonly", "volume-nocopy", "bind-nonrecursive"}
_RECURSIVE = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}


def mount(text: str) -> dict[str, Any]:
    """--mount type=bind|volume|tmpfs|image,source=…,target=…,… → Mount. Raises ValueError in Docker's
    words.
    """
    wish: dict[str, Any] = {"Type": "volume", "Source": "", "Target": ""}
    volume: dict[str, Any] = {}
    driver: dict[str, Any] = {}
    bind: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    image: dict[str, Any] = {}
    seen: set[str] = set()
    if not text:
        raise ValueError("value is empty")
    for field in parse_csv(text):
        written, equals, value = field.partition("=")
        key = written.lower()
        if written != written.strip() or (equals and value != value.strip()):
            raise ValueError(
                f"invalid option '{written.strip()}' in '{field}': option should not have whitespace"
            )
        key = _ALIASES.get(key, key)
        if key in _BOOLEAN and not equals:
            value = "true"
        elif not equals:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        seen.add(key.partition("-")[0] if "-" in key else "")
        match key:
            case "type":
                wish["Type"] = value.lower()
            case "source":
                wish["Source"] = value
            case "target":
                wish["Target"] = value
            case "readonly":
                wish["ReadOnly"] = _bool(written, value)
            case "consistency":
                wish["Consistency"] = value.lower()
            case "bind-propagation":
                bind["Propagation"] = value.lower()
            case "bind-nonrecursive":
                bind["NonRecursive"] = _bool(key, value)
            case "bind-recursive":
                if value not in _RECURSIVE:
                    raise ValueError(
                        f"invalid value for {key}: {value} "
                        '(must be "enabled", "disabled", "writable", or "readonly")'
                    )
                bind.update(_RECURSIVE[value])
            case "volume-nocopy":
                volume["NoCopy"] = _bool(key, value)
            case "volume-subpath":
                volume["Subpath"] = value
            case "volume-label":
                _pair(volume.setdefault("Labels", {}), value)
            case "volume-driver":
                driver["Name"] = value
            case "volume-opt":
                _pair(driver.setdefault("Options", {}), value)
            case "image-subpath":
                image["Subpath"] = value
            case "tmpfs-size":
                memory["SizeBytes"] = _size(key, value)
            case "tmpfs-mode":
                try:
                    memory["Mode"] = int(value, 8)
                except ValueError:
                    raise ValueError(f"invalid value for {key}: {value}") from None
            case _:
                raise ValueError(f"unexpected key '{written}' in '{field}'")
    return _assembled(wish, seen, bind, volume, driver, memory, image)


def _assembled(
    wish: dict[str, Any],
    seen: set[str],
    bind: dict[str, Any],
    volume: dict[str, Any],
    driver: dict[str, Any],
    memory: dict[str, Any],
    image: dict[str, Any],
) -> dict[str, Any]:
    if not wish["Type"]:
        raise ValueError("type is required")
    if not wish["Target"]:
        raise ValueError("target is required")
    kind = wish["Type"]
    for family in ("bind", "volume", "tmpfs", "image"):
        if family in seen and family != kind:
            raise ValueError(f"cannot mix '{family}-*' options with mount type '{kind}'")
    if bind.get("ReadOnlyForceRecursive") and not wish.get("ReadOnly"):
        raise ValueError(
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction"
        )
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise ValueError(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' "
            "to be specified in conjunction"
        )
    if not wish["Source"]:
        del wish["Source"]
    if driver or volume:
        volume["DriverConfig"] = driver
    for key, options in (
        ("BindOptions", bind),
        ("VolumeOptions", volume),
        ("TmpfsOptions", memory),
        ("ImageOptions", image),
    ):
        if options:
            wish[key] = options
    if not wish.get("ReadOnly"):
        wish.pop("ReadOnly", None)
    return wish


def _bool(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _size(key: str, value: str) -> int:
    try:
        return parse_bytes(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _pair(into: dict[str, str], text: str) -> None:
    key, _, value = text.partition("=")
    into[key] = value


def devices(specs: Sequence[str]) -> tuple[list[dict[str, str]], list[str]]:
    """--device → (Devices, CDI names). host[:container][:rwm], or vendor.com/class=name."""
    found: list[dict[str, str]] = []
    cdi: list[str] = []
    for spec in specs:
        if not spec.startswith("/") and "=" in spec and "/" in spec.partition("=")[0]:
            cdi.append(spec)
            continue
        parts = spec.split(":")
        host, container, mode = parts[0], parts[0], "rwm"
        if len(parts) == 3:
            container, mode = parts[1], parts[2]
        elif len(parts) == 2 and is_device_mode(parts[1]):
            mode = parts[1]
        elif len(parts) == 2:
            container = parts[1]
        if len(parts) > 3 or not host:
            raise ValueError(f"bad format for path: {spec}")
        if not container.startswith("/"):
            # "/a:/b:q" is a bad mode, "/a:q" a bad path: what stands there last is what is wrong.
            raise ValueError(f"{container} is not an absolute path")
        if not is_device_mode(mode):
            raise ValueError(f"bad mode specified: {mode}")
        found.append({"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": mode})
    return found, cdi


def is_device_mode(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)
