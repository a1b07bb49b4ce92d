"""Single values of `run` flags: text → shapes of the Engine API. Pure; ValueError says why, in
Docker's words.

Also what comes from files: variables and labels, one NAME=value per line.
"""

from __future__ import annotations

from skiff.cli.flags import parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

KERNEL_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"]
)


class Surroundings:
    """The world as `wish` may see it. read: a file's text, OSError; environment: the user's variables."""

    __slots__ = ("cwd", "environment", "home", "read")

    def __init__(
        self, *, cwd: str, home: str, environment: Mapping[str, str], read: Callable[[str], str]
    ) -> None:
        self.cwd = cwd
        self.home = home
        self.environment = environment
        self.read = read


def _is_ip(text: str) -> bool:
    from skiff.cli.run_ports import is_ip

    return is_ip(text)


def parse_cpus(text: str) -> int:
    """1.5 → 1500000000 (NanoCpus). Also 3/2."""
    wrong = ValueError(f"failed to parse {text} as a rational number")
    top, slash, bottom = text.partition("/")
    whole, _, fraction = top.partition(".")
    sign = -1 if whole[:1] == "-" else 1
    digits = whole.lstrip("+-")
    if (
        not (digits + fraction).isdecimal()
        or (slash and not bottom.isdecimal())
        or (slash and not int(bottom))
    ):
        raise wrong
    scaled = sign * int((digits or "0") + fraction) * 1_000_000_000
    divisor = 10 ** len(fraction) * int(bottom or "1")
    if scaled % divisor:
        raise ValueError("value is too precise")
    return int(scaled // divisor)


def parse_swap(text: str) -> int:
    return -1 if text == "-1" else parse_bytes(text)


def parse_stream(text: str) -> str:
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def parse_env(text: str) -> str:
    if not text.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {text}")
    return text


def parse_host(text: str) -> str:
    """name:ip or name=ip → name:ip."""
    for separator in ("=", ":"):
        name, found, ip = text.partition(separator)
        if found:
            break
    if not found or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    ip = ip[1:-1] if ip[:1] == "[" and ip[-1:] == "]" else ip
    if ip != "host-gateway" and not _is_ip(ip):
        raise ValueError(f'invalid IP address in add-host: "{ip}"')
    return f"{name}:{ip}"


def parse_domain(text: str) -> str:
    """A search domain; `.` for none."""
    name = text.strip()
    if name == ".":
        return name
    labels = name.removesuffix(".").split(".")
    if not all(0 < len(label) < 64 and not label.strip(_OF_DOMAINS) for label in labels):
        raise ValueError(f"{text} is not a valid domain")
    return name


_OF_DOMAINS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


def parse_ip(text: str) -> str:
    if not _is_ip(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def parse_link(text: str) -> str:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def parse_sysctl(text: str) -> str:
    name, equals, _ = text.partition("=")
    if equals and (name in KERNEL_SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        return text
    raise ValueError(f"sysctl '{text}' is not allowed")


def parse_ulimit(text: str) -> dict[str, Any]:
    from skiff.docker.ulimits import NAMES

    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in NAMES:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = limits.split(":")
    if len(parts) > 2:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    values = []
    for part in parts:
        if not part.removeprefix("-").isdecimal():
            raise ValueError(f'strconv.ParseInt: parsing "{part}": invalid syntax')
        values.append(int(part))
    soft, hard = values[0], values[-1]
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def parse_throttle_bytes(text: str) -> dict[str, Any]:
    path, rate = _device_rate(text)
    try:
        return {"Path": path, "Rate": parse_bytes(rate)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def parse_throttle(text: str) -> dict[str, Any]:
    path, rate = _device_rate(text)
    if not rate.isdecimal():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(rate)}


def parse_weight(text: str) -> dict[str, Any]:
    path, weight = _device_rate(text)
    if not weight.isdecimal() or (int(weight) and not 10 <= int(weight) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def _device_rate(text: str) -> tuple[str, str]:
    path, colon, rate = text.partition(":")
    if not colon or not path or ":" in rate:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, rate


def parse_device_rule(text: str) -> str:
    kind, _, rest = text.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    good = kind in ("a", "b", "c") and colon and access and not access.strip("rwm") and len(access) <= 3
    if not good or any(n != "*" and not n.isdecimal() for n in (major, minor)):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def pairs(texts: Sequence[str], *, need_value: str = "") -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if need_value and not equals:
            raise ValueError(need_value)
        found[key] = value
    return found


def environment(files: Sequence[str], given: Sequence[str], around: Surroundings) -> list[str]:
    """Files first, then -e. NAME alone takes the user's own value; unset, -e keeps the bare name (it
    unsets).
    """
    found = []
    for path in files:
        for line in _lines(path, around, "env"):
            name, equals, _ = line.partition("=")
            if equals:
                found.append(line)
            elif name in around.environment:
                found.append(f"{name}={around.environment[name]}")
    for text in given:
        if "=" not in text and text in around.environment:
            text = f"{text}={around.environment[text]}"
        found.append(text)
    return found


def labels(files: Sequence[str], given: Sequence[str], around: Surroundings) -> dict[str, str]:
    lines = [line for path in files for line in _lines(path, around, "label")]
    return pairs([*lines, *given])


def _lines(path: str, around: Surroundings, what: str) -> list[str]:
    """One NAME=value per line; # begins a comment line; white space before a name is dropped."""
    try:
        text = around.read(path)
    except OSError as error:
        raise ValueError(opening(path, error)) from error
    except UnicodeDecodeError:
        raise ValueError(f"invalid {what} file ({path}): not UTF-8") from None
    found = []
    for line in text.removeprefix("\ufeff").split("\n"):
        line = line.removesuffix("\r").lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if any(c.isspace() for c in name):
            raise ValueError(f"invalid {what} file ({path}): variable '{name}' contains whitespaces")
        if not name:
            raise ValueError(f"invalid {what} file ({path}): no variable name on line '{line}'")
        found.append(line)
    return found


def opening(path: str, error: OSError) -> str:
    return f"open {path}: {(error.strerror or str(error)).lower()}"
