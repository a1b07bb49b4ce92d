"""Reading back what a container wrote: tail, since, until, follow. The writer is runtime/monitor/logs.py."""

from collections.abc import AsyncIterator

from msgspec import Struct


class LogQuery(Struct, frozen=True, kw_only=True):
    """tail: lines from the end, None for all. since, until: ns since the epoch, 0 for none."""

    stdout: bool = True
    stderr: bool = True
    tail: int | None = None
    since: int = 0
    until: int = 0
    follow: bool = False
    timestamps: bool = False
    details: bool = False


class Logs:
    def read(self, text: str, query: LogQuery) -> tuple[bool, AsyncIterator[bytes]]:
        """(has a terminal, chunks ready to send: framed as stdcopy unless it has a terminal).

        NotFound; InvalidParameter; NotImplementedHere for a log driver that cannot be read.
        """
        raise NotImplementedError
