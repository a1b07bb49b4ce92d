"""A build as it goes on: lines as the engine tells them, or a live view on a terminal.

The live view has one line for each step, with its time; below the one that runs stand the last lines that it
said. Finished ones stay above and scroll away.
"""

from __future__ import annotations

import os
import time

from skiff.cli.progress import Refused, plain, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, TextIO

    Json = dict[str, Any]

_TAIL = 6  # lines of output below the running step
_KEPT = 200  # that are shown again when the step fails


def raw(messages: Iterable[Json]) -> Iterator[Json]:
    """--progress=rawjson: each message printed as it is; those that others need are passed on."""
    from skiff.client import json_text

    for message in messages:
        if "error" not in message:
            print(json_text.encode(message).decode(), flush=True)
        if "aux" in message or "error" in message:
            yield message


class Live:
    """Draws. `show` gives the messages with an "aux"; Refused at the first error."""

    def __init__(self, out: TextIO, now: Any = time.monotonic) -> None:
        self._out = out
        self._now = now
        self._title = ""
        self._mark = "✓"
        self._started = now()
        self._log: list[str] = []
        self._rest = ""
        self._below = 0  # lines drawn below the title

    def show(self, messages: Iterable[Json]) -> list[Json]:
        extras = []
        try:
            for message in messages:
                failure = message.get("errorDetail") or message.get("error")
                if failure:
                    self._settle("✗")
                    self._out.write("".join(f"{line}\n" for line in self._log))
                    raise Refused(refusal(message))
                if "aux" in message:
                    extras.append(message)
                elif "stream" in message:
                    self._take(message["stream"])
                else:
                    self._said(plain(message))
                self._draw()
            self._settle(self._mark)
        finally:
            self._erase()
            self._title = ""
            self._out.flush()
        return extras

    def _take(self, text: str) -> None:
        if text.startswith("Step "):
            self._settle(self._mark)
            self._title, self._started, self._mark, self._log = text.strip(), self._now(), "✓", []
        elif text.startswith(" ---> Using cache"):
            self._mark = "•"
        elif text.startswith((" ---> Why", "Success", "Verify", "[Warning]", "sha256:")):
            if not text.startswith(" ---> Why"):
                self._settle(self._mark)
            self._erase()
            self._out.write(text)
        elif not text.startswith(" ---> "):
            self._said(text)

    def _said(self, text: str) -> None:
        *lines, self._rest = (self._rest + text.replace("\x1b[91m", "").replace("\x1b[0m", "")).split("\n")
        self._log += [line.rstrip("\r") for line in lines]
        del self._log[:-_KEPT]

    def _settle(self, mark: str) -> None:
        """The step is over: its line stays."""
        self._erase()
        if self._title:
            spent = "" if mark == "•" else f"  {self._now() - self._started:.1f}s"
            self._out.write(f"{mark} {self._title}{spent}\n")
            self._title = ""

    def _draw(self) -> None:
        self._erase()
        if self._title:
            width = _columns() - 1
            title = f"… {self._title}  {self._now() - self._started:.1f}s"
            shown = [line for line in [*self._log, self._rest] if line.strip()][-_TAIL:]
            lines = [title[:width], *(f"    {_printable(line)}"[:width] for line in shown)]
            self._out.write("\n".join(lines) + "\r")
            self._below = len(lines)
        self._out.flush()

    def _erase(self) -> None:
        if self._below:
            up = f"\x1b[{self._below - 1}A" if self._below > 1 else ""
            self._out.write(f"\r{up}\x1b[J")
            self._below = 0


def _printable(line: str) -> str:
    """A command must not move our cursor."""
    return "".join(c if c.isprintable() else " " for c in line.expandtabs())


def _columns() -> int:
    try:
        return os.get_terminal_size(1).columns or 80  # 0: a terminal that does not know
    except OSError:
        return 80
