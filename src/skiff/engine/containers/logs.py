"""Reading back what a container wrote: tail, since, until, follow. The writer is runtime/monitor/logs.py.

<id>-json.log · <id>-json.log.1[.gz] · .2[.gz] …       the newest first; read from the oldest
"""

import asyncio
import gzip
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO
from urllib.parse import quote

from msgspec import Struct

from skiff.docker import jsonlog, stdcopy
from skiff.engine.containers.live import Live
from skiff.engine.containers.record import Container, Records
from skiff.engine.containers.spec import logging
from skiff.engine.containers.watching import Watch
from skiff.errors import InvalidParameter, NotImplementedHere
from skiff.paths import DataPaths

BLOCK = 64 * 1024
CHUNK = 64 * 1024  # bytes gathered before they are sent


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
    def __init__(self, *, records: Records, live: Live, data: DataPaths) -> None:
        self.records = records
        self.live = live
        self.data = data

    def read(self, text: str, query: LogQuery) -> tuple[bool, AsyncIterator[bytes]]:
        """(has a terminal, chunks ready to send: framed as stdcopy unless it has a terminal).

        NotFound; InvalidParameter; NotImplementedHere for a log driver that cannot be read.
        """
        container = self.records.find(text)
        if not (query.stdout or query.stderr):
            raise InvalidParameter("Bad parameters: you must choose at least one stream")
        if container.host.log_config.type not in logging.WRITTEN:
            raise NotImplementedHere("configured logging driver does not support reading")
        return container.config.tty, self._chunks(container, query)

    async def _chunks(self, container: Container, query: LogQuery) -> AsyncIterator[bytes]:
        path = str(self.data.log(container.id))
        terminal = container.config.tty
        if query.follow and container.state.running:
            async for chunk in self._followed(container.id, path, query, terminal):
                yield chunk
            return
        for chunk in gathered(past(path, query), query, terminal):
            yield chunk
            await asyncio.sleep(0)  # a large log must not hold up the engine

    async def _followed(self, id: str, path: str, query: LogQuery, terminal: bool) -> AsyncIterator[bytes]:
        """The past, then what is appended, until the container stops. Rotation is followed."""
        ended = self.live.next_stop(id)
        with Watch(os.path.dirname(path)) as watch:
            current = _open(path)
            try:
                for chunk in gathered(past(path, query, current), query, terminal):
                    yield chunk
                rest = b""
                while True:
                    stopped = ended.done()
                    data = current.read(BLOCK) if current else b""
                    if data:
                        lines = (rest + data).split(b"\n")
                        rest = lines.pop()
                        for chunk in gathered(map(_record, lines), query, terminal):
                            yield chunk
                        continue
                    if current is None or _replaced(current, path):
                        new = _open(path)
                        if new is not None:
                            if current:
                                current.close()
                            current, rest = new, b""
                            continue
                    if stopped or (query.until and time.time_ns() > query.until):
                        return
                    await watch.changed(ended)
            finally:
                ended.cancel()
                if current:
                    current.close()


def _open(path: str) -> BinaryIO | None:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _replaced(file: BinaryIO, path: str) -> bool:
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return False
    return about.st_ino != os.fstat(file.fileno()).st_ino


def _record(line: bytes) -> jsonlog.Record | None:
    try:
        return jsonlog.decode(line)
    except ValueError:
        return None  # half a line that a crash left behind


def past(path: str, query: LogQuery, current: BinaryIO | None = None) -> Iterator[jsonlog.Record | None]:
    """What is there now, oldest first. current: the newest file, left positioned after what was read."""
    newest = current or _open(path)
    try:
        if query.tail is not None:
            yield from _tail(path, newest, query)
            return
        for older in rotated(path):
            with open_log(older) as file:
                yield from map(_record, file)
        if newest is not None:
            while line := newest.readline():
                if not line.endswith(b"\n"):
                    newest.seek(-len(line), os.SEEK_CUR)
                    return
                yield _record(line)
    finally:
        if newest is not None and newest is not current:
            newest.close()


def _tail(path: str, newest: BinaryIO | None, query: LogQuery) -> Iterator[jsonlog.Record | None]:
    """The last records that the streams asked for, found from the end."""
    wanted = query.tail or 0
    found: list[jsonlog.Record] = []
    counted = [0]
    files = [newest] if newest is not None else []
    end = newest.seek(0, os.SEEK_END) if newest is not None else 0

    def gather(lines: Iterator[bytes]) -> bool:
        for line in lines:
            record = _record(line)
            if record is None or not _asked(record, query):
                continue
            # a line in several records counts once, by the one that ends it
            if record.log.endswith("\n") or not found:
                if counted[0] >= wanted:
                    return True
                counted[0] += 1
            found.append(record)
        return False

    full = wanted == 0
    for file in files:
        full = full or gather(_backwards(file))
    if not full:
        for older in reversed(list(rotated(path))):
            with open_log(older) as file:
                if gather(reversed(file.readlines())):
                    break
    if newest is not None:
        newest.seek(end)
    yield from reversed(found)


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines from the end, without their newlines."""
    at = file.seek(0, os.SEEK_END)
    rest = b""
    while at > 0:
        size = min(BLOCK, at)
        at -= size
        file.seek(at)
        lines = (file.read(size) + rest).split(b"\n")
        rest = lines[0]
        yield from (line for line in reversed(lines[1:]) if line)
    if rest:
        yield rest


def rotated(path: str) -> Iterator[str]:
    """The older files, the oldest first."""
    directory, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.(\d+)(\.gz)?")
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    numbered = [(int(match[1]), found) for found in names if (match := pattern.fullmatch(found))]
    for _, found in sorted(numbered, reverse=True):
        yield f"{directory}/{found}"


def open_log(path: str) -> BinaryIO:
    if path.endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return open(path, "rb")


def _asked(record: jsonlog.Record, query: LogQuery) -> bool:
    if record.stream == "stderr":
        return query.stderr
    return query.stdout


def gathered(records: Iterator[jsonlog.Record | None], query: LogQuery, terminal: bool) -> Iterator[bytes]:
    """The records that were asked for, as they are sent, some together."""
    buffer = bytearray()
    for record in records:
        if record is None or not _asked(record, query):
            continue
        if query.since or query.until:
            try:
                at = record.time_ns
            except ValueError:
                continue
            if at < query.since:
                continue
            if query.until and at > query.until:
                break
        line = rendered(record, query)
        stream = stdcopy.STDERR if record.stream == "stderr" else stdcopy.STDOUT
        buffer += line if terminal else stdcopy.frame(stream, line)
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def rendered(record: jsonlog.Record, query: LogQuery) -> bytes:
    """One record as text: time, details, line."""
    text = record.log
    if query.details:
        pairs = sorted((record.attrs or {}).items())
        text = ",".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in pairs) + " " + text
    if query.timestamps:
        text = _fixed(record.time) + " " + text
    return text.encode()


def _fixed(time: str) -> str:
    """All nine digits, so that columns line up."""
    whole, dot, fraction = time.removesuffix("Z").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}Z" if dot else f"{whole}.000000000Z"
