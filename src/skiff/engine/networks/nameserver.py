"""127.0.0.11 in each sandbox: names of containers from the records, everything else from the host's servers.

The sockets are made inside the sandbox's namespace and served on the engine's loop. They listen on ports of
the kernel's choice, to which the sandbox's own nf_tables lead port 53 of 127.0.0.11, so that a container may
run a name server itself.
"""

import asyncio
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from skiff.engine.networks.dns import (
    AAAA,
    ANY,
    NO_SUCH_NAME,
    PTR,
    REFUSED,
    SERVER_FAILURE,
    A,
    MalformedMessage,
    Question,
    address_record,
    pointer_record,
    question,
    reply,
    reversed_address,
)

ADDRESS: Final = "127.0.0.11"
PORT: Final = 53
FORWARD_SECONDS: Final = 4.0
FORWARDS_AT_ONCE: Final = 1024  # per sandbox; beyond it the answer is SERVFAIL, as a storm should hear
CONVERSATIONS_AT_ONCE: Final = 64  # over TCP, per sandbox: each costs the engine a descriptor
SILENCE_SECONDS: Final = 30.0
_UDP_BYTES: Final = 512
_LONGEST_QUESTION: Final = 4096
_MOST_ANSWERS: Final = 2_000  # kept per sandbox; questions are the container's to choose, the memory is ours

Address = IPv4Address | IPv6Address


class Directory(Protocol):
    """What a sandbox may know."""

    @property
    def version(self) -> int:
        """Another number when any answer may be another."""
        ...

    def addresses(self, name: str) -> Sequence[Address] | None:
        """Of a container's name or alias on a network of this sandbox; None if there is no such name."""
        ...

    def name(self, address: Address) -> str | None:
        """The name of the container with that address."""
        ...

    def servers(self) -> Sequence[tuple[str, int]]:
        """Where other questions go; empty to refuse them."""
        ...

    def allows(self, name: str) -> bool:
        """May that name be asked for elsewhere?"""
        ...

    def answered(self, name: str, message: bytes) -> None:
        """Called before an answer from elsewhere is passed on. OSError keeps it back."""
        ...


class NameServer:
    """The resolver of one sandbox, on sockets bound inside it."""

    def __init__(self, directory: Directory, udp: socket.socket, tcp: socket.socket) -> None:
        self._directory = directory
        self._udp = udp
        self._tcp = tcp
        self._loop = asyncio.get_running_loop()
        self._forwards: set[asyncio.Task[None]] = set()
        self._talking = 0
        self._answers: dict[bytes, bytes] = {}  # by question, both without the two bytes of the id
        self._version = -1  # of the directory when these answers were found
        for sock in (udp, tcp):
            sock.setblocking(False)
        self._loop.add_reader(udp.fileno(), self._readable)
        self._server = self._loop.create_task(asyncio.start_server(self._conversation, sock=tcp))

    async def close(self) -> None:
        self._loop.remove_reader(self._udp.fileno())
        self._udp.close()
        for task in self._forwards:
            task.cancel()
        (await self._server).close()

    def _readable(self) -> None:
        for _ in range(64):  # then let others have the loop
            try:
                message, client = self._udp.recvfrom(_LONGEST_QUESTION)
            except BlockingIOError:
                return
            except OSError:
                continue  # the container closed its port before our last answer came
            self._received(message, client)

    def _received(self, message: bytes, client: tuple[str, int]) -> None:
        known = self._current_answers().get(message[2:])
        if known is not None:
            self._send(message[:2] + known, client)
            return
        try:
            asked = question(message)
        except MalformedMessage:
            return
        answer = self.local_answer(message, asked, limit=_UDP_BYTES)
        if answer is not None and not answer[3] & 0xF:
            self._answers[message[2:]] = answer[2:]
        if answer is None and len(self._forwards) >= FORWARDS_AT_ONCE:
            answer = reply(message, asked, code=SERVER_FAILURE)
        if answer is not None:
            self._send(answer, client)
            return
        task = self._loop.create_task(self._forward_datagram(message, asked, client))
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)

    def _current_answers(self) -> dict[bytes, bytes]:
        version = self._directory.version
        if version != self._version or len(self._answers) > _MOST_ANSWERS:
            self._answers.clear()
            self._version = version
        return self._answers

    def _send(self, answer: bytes, client: tuple[str, int]) -> None:
        try:
            self._udp.sendto(answer, client)
        except OSError:
            return  # a full buffer loses the answer, as UDP may; the client asks again

    async def _forward_datagram(self, message: bytes, asked: Question, client: tuple[str, int]) -> None:
        self._send(await self._forwarded(message, asked, over_tcp=False), client)

    def local_answer(self, message: bytes, asked: Question, limit: int = 65535) -> bytes | None:
        """What the records say, None when the question is for others."""
        if asked.type == PTR:
            address = reversed_address(asked.name)
            name = self._directory.name(address) if address is not None else None
            return reply(message, asked, [pointer_record(name)]) if name else None
        known = self._directory.addresses(asked.name)
        if known is None:
            if "." not in asked.name and not self._directory.servers():
                return reply(message, asked, code=NO_SUCH_NAME)
            return None
        if asked.type not in (A, AAAA, ANY):
            return reply(message, asked)
        version = {A: 4, AAAA: 6}.get(asked.type)
        records = [address_record(a) for a in known if version in (None, a.version)]
        return reply(message, asked, records, limit=limit)

    async def _forwarded(self, message: bytes, asked: Question, *, over_tcp: bool) -> bytes:
        if not self._directory.allows(asked.name):
            return reply(message, asked, code=NO_SUCH_NAME)
        servers = self._directory.servers()
        if not servers:
            return reply(message, asked, code=NO_SUCH_NAME if "." not in asked.name else REFUSED)
        for server in servers:
            try:
                async with asyncio.timeout(FORWARD_SECONDS):
                    ask = _ask_stream if over_tcp else _ask_datagram
                    answer = await ask(server, message)
                self._directory.answered(asked.name, answer)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
            return answer
        return reply(message, asked, code=SERVER_FAILURE)

    async def _conversation(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """DNS over TCP: each message behind its length in two bytes. RFC 1035 § 4.2.2."""
        if self._talking >= CONVERSATIONS_AT_ONCE:
            writer.close()
            return
        self._talking += 1
        try:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    (length,) = struct.unpack(">H", await reader.readexactly(2))
                    message = await reader.readexactly(length)
                asked = question(message)
                answer = self.local_answer(message, asked)
                if answer is None:
                    answer = await self._forwarded(message, asked, over_tcp=True)
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, MalformedMessage):
            return
        finally:
            self._talking -= 1
            writer.close()


class _Datagram(asyncio.DatagramProtocol):
    def __init__(self, id: bytes) -> None:
        self._id = id
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and data[:2] == self._id:
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_datagram(server: tuple[str, int], message: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Datagram(message[:2]), remote_addr=server
    )
    try:
        transport.sendto(message)
        return await protocol.answer
    finally:
        transport.close()


async def _ask_stream(server: tuple[str, int], message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack(">H", len(message)) + message)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()
