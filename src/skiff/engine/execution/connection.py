"""One channel to a monitor: requests with numbered answers, and news unasked.

Packets are read by the event loop as they come; nobody polls. When the monitor is gone every open request
fails.
"""

import asyncio
import socket
from collections.abc import Callable

from msgspec import DecodeError, structs

from skiff.engine.execution.runtime import RuntimeFailure
from skiff.linux import fds
from skiff.runtime.protocol import MAX_PACKET, Reply, ToEngine, ToMonitor, decode_for_engine, encode


class Connection:
    """on_news: gets every message that is no Reply. on_lost: the monitor has gone."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.channel = channel
        self.loop = asyncio.get_running_loop()
        self.on_news: Callable[[ToEngine], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.open = True
        self._early: list[ToEngine] = []
        self._first: asyncio.Future[ToEngine | None] = self.loop.create_future()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._seq = 0
        self.loop.add_reader(channel.fileno(), self._readable)

    async def first(self) -> ToEngine | None:
        """The first message; None if the other side went without a word."""
        return await asyncio.shield(self._first)  # who stops waiting may ask again

    def listen(self, on_news: Callable[[ToEngine], None], on_lost: Callable[[], None]) -> None:
        """Take the news from here on, those that came already included."""
        self.on_news, self.on_lost = on_news, on_lost
        early, self._early = self._early, []
        for message in early:
            on_news(message)
        if not self.open:
            on_lost()

    async def ask(self, request: ToMonitor, riders: tuple[int, ...] = ()) -> Reply:
        """Send and wait for the answer. RuntimeFailure when the monitor is gone."""
        self._seq += 1
        seq = self._seq
        answer: asyncio.Future[Reply] = self.loop.create_future()
        self._replies[seq] = answer
        try:
            await self._send(encode(structs.replace(request, seq=seq)), riders)
            return await answer
        finally:
            self._replies.pop(seq, None)

    async def _send(self, packet: bytes, riders: tuple[int, ...]) -> None:
        while True:
            if not self.open:
                raise _gone()
            try:
                fds.send_packet(self.channel, packet, riders)
                return
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                self._lost()
                raise _gone() from error

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self.loop.create_future()
        fd = self.channel.fileno()
        self.loop.add_writer(fd, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            self.loop.remove_writer(fd)

    def _readable(self) -> None:
        while self.open:
            try:
                packet, riders = fds.recv_packet(self.channel, MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet, riders = b"", []
            fds.close_all(riders)
            if not packet:
                self._lost()
                return
            try:
                self._take(decode_for_engine(packet))
            except DecodeError:
                self._lost()  # not a monitor of this version: nothing it says can be trusted

    def _take(self, message: ToEngine) -> None:
        if not self._first.done():
            self._first.set_result(message)
        elif isinstance(message, Reply):
            answer = self._replies.get(message.seq)
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif self.on_news is not None:
            self.on_news(message)
        else:
            self._early.append(message)

    def _lost(self) -> None:
        self.close()
        if self.on_lost is not None:
            self.on_lost()

    def close(self) -> None:
        """End the conversation; open requests fail."""
        if not self.open:
            return
        self.open = False
        self.loop.remove_reader(self.channel.fileno())
        self.channel.close()
        if not self._first.done():
            self._first.set_result(None)
        for answer in self._replies.values():
            if not answer.done():
                answer.set_exception(_gone())


def _gone() -> RuntimeFailure:
    return RuntimeFailure("the monitor of the container has gone", step="monitor")
