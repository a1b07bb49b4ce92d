"""What the firewall cannot lead to a container: bytes carried by the engine. TCP and UDP.

That is a port of the host's IPv6 addresses for a container that has IPv4 only, since address families cannot
be changed there; and ::1, which is no source of packets to anywhere else.
"""

import asyncio
import socket
from typing import Final, cast

CHUNK: Final = 256 * 1024
IDLE_SECONDS: Final = 90.0  # a UDP client that says nothing for so long is forgotten
MOST_CLIENTS: Final = 4096  # of each kind, per port


class Relay:
    """Serves on a bound socket until closed. target: the container's (address, port)."""

    def __init__(self, listening: socket.socket, target: tuple[str, int]) -> None:
        self._socket = listening
        self._target = target
        self._server: asyncio.Server | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._socket.setblocking(False)
        if self._socket.type == socket.SOCK_DGRAM:
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self._target), sock=self._socket.dup()
            )
        else:
            self._server = await asyncio.start_server(self._accepted, sock=self._socket.dup(), backlog=512)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._transport is not None:
            self._transport.close()
        for task in self._conversations:
            task.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._conversations) >= MOST_CLIENTS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, ours = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()  # the client hears a reset, as if the port were closed
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, ours))
                group.create_task(_pump(theirs, writer))
        except* OSError:
            writer.transport.abort()
        finally:
            ours.close()
            writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK):
        sink.write(chunk)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


class _Datagrams(asyncio.DatagramProtocol):
    """Each client gets a socket of its own towards the container, so that answers find their way back."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._clients: dict[tuple[str, int], _Client] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        client = self._clients.get(addr)
        if client is None:
            if len(self._clients) >= MOST_CLIENTS:
                return  # lost, as UDP may be
            client = self._clients[addr] = _Client(self, addr, self._target)
        client.send(data)

    def forget(self, address: tuple[str, int]) -> None:
        self._clients.pop(address, None)

    def connection_lost(self, exc: Exception | None) -> None:
        for client in list(self._clients.values()):
            client.close()


class _Client:
    def __init__(self, front: _Datagrams, address: tuple[str, int], target: tuple[str, int]) -> None:
        self._front = front
        self._address = address
        self._loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.connect(target)
        self._loop.add_reader(self._socket.fileno(), self._answered)
        self._timer = self._loop.call_later(IDLE_SECONDS, self.close)

    def send(self, data: bytes) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(IDLE_SECONDS, self.close)
        try:
            self._socket.send(data)
        except OSError:
            return  # nobody listens in the container: the datagram is lost

    def _answered(self) -> None:
        try:
            self._front.transport.sendto(self._socket.recv(65535), self._address)
        except OSError:
            return

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._front.forget(self._address)
