"""The resolver on a loopback of the host's: local answers, answers of others, storms."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import cast

from dnslib import QTYPE, RR, DNSRecord
from dnslib import A as ARecord

from skiff.engine.networks.nameserver import NameServer

Address = IPv4Address | IPv6Address


class Phonebook:
    """A Directory."""

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        self.version = 0
        self.known: dict[str, list[Address]] = {}
        self._servers = servers
        self.passed_on: list[str] = []

    def addresses(self, name: str) -> Sequence[Address] | None:
        return self.known.get(name)

    def name(self, address: Address) -> str | None:
        return next((name for name, found in self.known.items() if address in found), None)

    def servers(self) -> Sequence[tuple[str, int]]:
        return self._servers

    def allows(self, name: str) -> bool:
        return name != "forbidden.example"

    def answered(self, name: str, message: bytes) -> None:
        if name == "closed.example":
            raise OSError("the way stays closed")
        self.passed_on.append(name)


class Client(asyncio.DatagramProtocol):
    """Asks many questions at once, told apart by their ids."""

    def __init__(self) -> None:
        self.answers: dict[int, asyncio.Future[DNSRecord]] = {}
        self.transport: asyncio.DatagramTransport | None = None

    def datagram_received(self, data: bytes, addr: object) -> None:
        answer = DNSRecord.parse(data)
        self.answers.pop(answer.header.id).set_result(answer)

    async def ask(self, id: int, name: str, kind: str = "A") -> DNSRecord:
        assert self.transport is not None
        self.answers[id] = future = asyncio.get_running_loop().create_future()
        question = DNSRecord.question(name, kind)
        question.header.id = id
        self.transport.sendto(bytes(question.pack()))
        return await asyncio.wait_for(future, 10)


class Upstream(asyncio.DatagramProtocol):
    """Knows one name: www.example."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asked = DNSRecord.parse(data)
        answer = asked.reply()
        answer.add_answer(RR(asked.q.qname, QTYPE.A, rdata=ARecord("192.0.2.7"), ttl=5))
        self.transport.sendto(bytes(answer.pack()), addr)


async def upstream() -> tuple[str, int]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Upstream, local_addr=("127.0.0.1", 0)
    )
    host, port = transport.get_extra_info("sockname")
    return host, port


async def client_of(book: Phonebook) -> tuple[NameServer, Client]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for sock in (udp, tcp):
        sock.bind(("127.0.0.1", 0))
    server = NameServer(book, udp, tcp)
    client = Client()
    client.transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: client, remote_addr=udp.getsockname()
    )
    return server, client


def said(answer: DNSRecord) -> list[str]:
    return [str(record.rdata) for record in answer.rr]


async def test_an_answer_is_repeated_under_the_id_of_its_question() -> None:
    book = Phonebook()
    book.known["web"] = [IPv4Address("172.18.0.2")]
    server, client = await client_of(book)
    for id in (1, 2, 3):
        answer = await client.ask(id, "web")
        assert (answer.header.id, said(answer)) == (id, ["172.18.0.2"])
    assert said(await client.ask(4, "web", "AAAA")) == []
    assert said(await client.ask(5, "2.0.18.172.in-addr.arpa", "PTR")) == ["web."]
    await server.close()


async def test_a_change_of_the_records_is_heard_at_once() -> None:
    book = Phonebook()
    book.known["web"] = [IPv4Address("172.18.0.2")]
    server, client = await client_of(book)
    assert said(await client.ask(1, "web")) == ["172.18.0.2"]
    book.known["web"], book.version = [IPv4Address("172.18.0.9")], 1
    assert said(await client.ask(2, "web")) == ["172.18.0.9"]
    del book.known["web"]
    book.version = 2
    assert (await client.ask(3, "web")).header.rcode == 3
    await server.close()


async def test_many_questions_at_once() -> None:
    book = Phonebook([await upstream()])
    book.known = {f"c{n}": [IPv4Address(0xAC120000 + n)] for n in range(100)}
    server, client = await client_of(book)
    names = [f"c{n}" for n in range(100)] + [f"h{n}.example" for n in range(100)]
    answers = await asyncio.gather(*(client.ask(id, name) for id, name in enumerate(names)))
    expected = [str(IPv4Address(0xAC120000 + n)) for n in range(100)] + ["192.0.2.7"] * 100
    assert [said(a) for a in answers] == [[address] for address in expected]
    await server.close()


async def test_a_forbidden_name_is_not_passed_on_and_an_answer_waits_for_its_way() -> None:
    book = Phonebook([await upstream()])
    server, client = await client_of(book)
    assert (await client.ask(1, "forbidden.example")).header.rcode == 3
    assert (await client.ask(2, "closed.example")).header.rcode == 2
    assert said(await client.ask(3, "open.example")) == ["192.0.2.7"]
    assert book.passed_on == ["open.example"]
    await server.close()
