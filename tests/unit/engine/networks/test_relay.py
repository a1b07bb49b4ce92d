"""A relay on the loopback: IPv6 in front, IPv4 behind."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from skiff.engine.networks.relay import Relay


@asynccontextmanager
async def relay(kind: socket.SocketKind, target: tuple[str, int]) -> AsyncIterator[int]:
    front = socket.socket(socket.AF_INET6, kind)
    front.bind(("::1", 0))
    carried = Relay(front, target)
    await carried.start()
    yield front.getsockname()[1]
    await carried.close()
    front.close()


async def test_streams_are_carried_both_ways_to_their_ends() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with relay(socket.SOCK_STREAM, server.sockets[0].getsockname()) as port:
        reader, writer = await asyncio.open_connection("::1", port)
        writer.write(b"hello" * 10_000)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"HELLO" * 10_000
        writer.close()
    server.close()


async def test_a_closed_target_resets_the_client() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with relay(socket.SOCK_STREAM, closed.getsockname()) as port:
            reader, writer = await asyncio.open_connection("::1", port)
            try:
                assert await asyncio.wait_for(reader.read(), 5) == b""
            except ConnectionResetError:
                pass
            writer.close()


async def test_datagrams_find_their_way_back_to_each_client() -> None:
    loop = asyncio.get_running_loop()

    class Shout(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data.upper(), addr)  # type: ignore[attr-defined]

    transport, _ = await loop.create_datagram_endpoint(Shout, local_addr=("127.0.0.1", 0))
    async with relay(socket.SOCK_DGRAM, transport.get_extra_info("sockname")) as port:
        for word in (b"one", b"two"):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("::1", port))
                await loop.sock_sendall(client, word)
                assert await asyncio.wait_for(loop.sock_recv(client, 100), 5) == word.upper()
    transport.close()
