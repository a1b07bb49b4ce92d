"""One container, as much as is known of it, for `skiff why`; and the words that its reasons share. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Json = dict[str, Any]

SIGNALS = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
    24: "SIGXCPU",
    25: "SIGXFSZ",
    31: "SIGSYS",
}


class Reason:
    """says: one or more sentences on why. do: what helps, a line each."""

    __slots__ = ("do", "says")

    def __init__(self, says: str, *do: str) -> None:
        self.says = says
        self.do = do


class Case:
    """What is known of one container.

    found: its inspect. events: its own, oldest first. words: the last lines of its log.
    built_for, machine: architectures of its image and of the engine's machine, "" if unknown.
    """

    def __init__(
        self,
        found: Json,
        events: Sequence[Json] = (),
        words: Sequence[str] = (),
        *,
        built_for: str = "",
        machine: str = "",
    ) -> None:
        self.found = found
        self.events = list(events)
        self.words = list(words)
        self.built_for = built_for
        self.machine = machine
        self.name: str = found["Name"].removeprefix("/")
        self.state: Json = found["State"]
        self.host: Json = found.get("HostConfig") or {}
        self.config: Json = found.get("Config") or {}
        self.status: str = self.state["Status"]
        self.code: int = self.state.get("ExitCode") or 0
        self.signal = self.code - 128 if self.code - 128 in SIGNALS else 0
        self.error: str = self.state.get("Error") or ""

    @property
    def command(self) -> list[str]:
        return [self.found.get("Path") or "", *(self.found.get("Args") or ())]

    @property
    def program(self) -> str:
        return self.command[0].rpartition("/")[2]

    def acts(self) -> list[str]:
        """What happened since its latest start: `kill 15`, `die`, `stop`, `oom`."""
        found: list[str] = []
        for event in self.events:
            action = event["Action"]
            if action in ("start", "create"):
                found = []
            elif action == "kill":
                found.append(f"kill {event['Actor']['Attributes'].get('signal', '')}")
            else:
                found.append(action)
        return found

    def patience(self) -> int:
        """Seconds between the two latest signals that it was sent."""
        times = [event["time"] for event in self.events if event["Action"] == "kill"]
        return int(times[-1] - times[-2]) if len(times) > 1 else 0

    def said(self, *parts: str) -> str:
        """The latest of its last words with one of these in it, without regard to case; "" if none."""
        for line in reversed(self.words):
            if any(part in line.lower() for part in parts):
                return line.strip()
        return ""


def policy(case: Case) -> str:
    policy = case.host.get("RestartPolicy") or {}
    most = policy.get("MaximumRetryCount") or 0
    return f"{policy.get('Name') or 'no'}{f':{most}' if most else ''}"


def again(case: Case) -> str:
    return f"skiff start {case.name}"


def image(case: Case) -> str:
    return case.config.get("Image") or "IMAGE"


def tail(error: str) -> str:
    return error.rpartition(": ")[2]


def signal_name(text: str) -> str:
    return SIGNALS.get(int(text), f"signal {text}") if text.isdigit() else text or "a signal"


def amount(count: int) -> str:
    for unit in ("", "k", "m", "g"):
        if count < 1024 or unit == "g":
            return f"{count:g}{unit}" if isinstance(count, int) else f"{count:.1f}{unit}"
        count = count // 1024 if count % 1024 == 0 else count / 1024  # type: ignore[assignment]
    return str(count)
