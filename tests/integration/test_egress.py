"""Egress policies with real packets: containers, a host, hosts outside it and their name server.

Everything is in namespaces of the test's own. What a container gets through is counted where it would arrive.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dnslib import AAAA, CNAME, QTYPE, RR, A, DNSRecord

from skiff.docker.network import IPAM, EndpointSettings, IPAMConfig, NetworkCreate
from skiff.engine.networks.egress import OPTION
from skiff.engine.networks.egress_log import ALLOWED, REFUSED
from skiff.engine.networks.sandboxes import Sandbox
from skiff.engine.storage.state import SqliteState
from skiff.linux.nftables import (
    NFPROTO_BRIDGE,
    Chain,
    Nftables,
    delete_table,
    new_chain,
    new_rule,
    new_table,
    reject,
)
from tests.integration.engines import Engine
from tests.integration.house import HERE, RESOLVE, House, ask, serving
from tests.integration.own_network import OUTSIDE, PATIENCE, Network, in_own_network, output_in, python_in

pytestmark = pytest.mark.root

GOOD, BAD, GOOD6 = "203.0.113.10", "203.0.113.20", "2001:db8::10"
WORLD = f"""
ip link set lo up
ip link set dev wide up
ip addr add {GOOD}/24 dev wide
ip addr add {BAD}/24 dev wide
ip addr add {GOOD6}/64 dev wide nodad
ip route add default via 203.0.113.1
ip -6 route add default via 2001:db8::1
"""
# Prints when its stdin ends what came in at a link, from the sender's MAC address on. No ARP and the like.
SNIFF = """
import select, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 3))
print("ready", flush=True)
seen = []
while True:
    for ready in select.select([s, sys.stdin], [], [])[0]:
        if ready is sys.stdin:
            print(*seen)
            sys.exit()
        frame, about = s.recvfrom(2048)
        if about[2] != 4 and frame[12:14] != b"\\x08\\x06":  # not our own, no ARP
            if not (frame[12:14] == b"\\x86\\xdd" and frame[20] == 58 and frame[54] in (135, 136)):
                seen.append(frame[6:54].hex())
"""
ALL_ROUTERS = "ff020000000000000000000000000002"  # asked by a link that has just come up; never routed
MULTICAST_REPORT = "ff0200000000000000000000000000" + "16"  # RFC 3810 § 5.2.14
# Everything that a container with Docker's capabilities can try to get out.
ESCAPE = """
import os, socket, struct, sys
gateway, neighbour, host, world, mac = sys.argv[1:]
tried = 0
for address in (gateway, neighbour, host, world):
    for port in (53, 80):
        s = socket.socket()
        s.settimeout(0.1)
        try:
            s.connect((address, port))
            print("connected", address, port)
        except OSError:
            tried += 1
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        u.sendto(b"x" * 3000, (address, port))
    icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
    icmp.sendto(bytes.fromhex("0800f7ff00000000"), (address, 0))
    icmp.sendto(bytes.fromhex("0000ffff00000000"), (address, 0))
    other = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
    other.sendto(b"x" * 20, (address, 0))
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for address in ("255.255.255.255", "224.0.0.251"):
    b.sendto(b"x", (address, 5353))
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
try:
    six.sendto(b"x", ("ff02::1", 5353, 0, socket.if_nametoindex("eth0")))
except OSError:
    pass
p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
p.bind(("eth0", 0))
me = p.getsockname()[4]
def sent(to, kind, payload):
    p.send(bytes.fromhex(to.replace(":", "")) + me + kind + payload)
def udp(source, target):
    body = struct.pack(">4H", 999, 80, 9, 0) + b"x"
    head = struct.pack(">BBHHHBBH4s4s", 69, 0, 29, 1, 0, 64, 17, 0, *map(socket.inet_aton, (source, target)))
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xffff) + (total >> 16)
    return head[:10] + struct.pack(">H", ~((total & 0xffff) + (total >> 16)) & 0xffff) + head[12:] + body
for target in (gateway, neighbour, host, world):
    for to in (mac, "ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:00", "01:80:c2:00:00:0e", "01:00:5e:00:00:fb"):
        for source in (neighbour, world, "172.30.9.9"):
            sent(to, b"\\x08\\x00", udp(source, target))
            sent(to, b"\\x81\\x00\\x00\\x01\\x08\\x00", udp(source, target))
sent("ff:ff:ff:ff:ff:ff", b"\\x88\\xb5", b"an experiment of nobody" * 3)
print("tried", tried)
"""
PING = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
s.settimeout(1)
try:
    s.sendto(bytes.fromhex("0800f7ff00000000"), (sys.argv[1], 0))
    while s.recv(100)[20]:  # until it is an answer
        pass
    print("answer")
except OSError:
    print("silence")
"""
LONG = """
import socket, sys
s = socket.create_connection((sys.argv[1], 80), 2)
print(s.recv(10).decode(), flush=True)
for line in sys.stdin:
    s.sendall(b"?")
    try:
        print(s.recv(10).decode(), flush=True)
    except OSError:
        print("broken", flush=True)
"""
ECHO = """
import socket, threading
server = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
def serve(client):
    client.sendall(b"hello")
    while client.recv(10):
        client.sendall(b"again")
    client.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


class Zone(asyncio.DatagramProtocol):
    """The host's name server: what it knows, and what it was asked."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[RR]] = {}
        self.asked: list[str] = []

    def put(self, name: str, address: str, *, ttl: int = 60, kind: str = "A") -> None:
        data = {"A": A, "AAAA": AAAA, "CNAME": CNAME}[kind](address)
        self.records.setdefault((name, kind), []).append(RR(name, getattr(QTYPE, kind), rdata=data, ttl=ttl))

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = DNSRecord.parse(data)
        name, kind = str(question.q.qname).rstrip(".").lower(), QTYPE[question.q.qtype]
        self.asked.append(name)
        answer = question.reply()
        for _ in range(5):
            for record in self.records.get((name, kind), []):
                answer.add_answer(record)
            alias = self.records.get((name, "CNAME"))
            if not alias:
                break
            answer.add_answer(alias[0])
            name = str(alias[0].rdata).rstrip(".")
        if not answer.rr:
            answer.header.rcode = 3
        self.transport.sendto(bytes(answer.pack()), addr)


class World:
    """Hosts outside, at GOOD and BAD, with a name server on this one."""

    def __init__(self, network: Network, zone: Zone) -> None:
        self.network = network
        self.zone = zone


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    network = Network()
    holder = network.path.split("/")[2]
    run("ip", "link", "add", "wide0", "type", "veth", "peer", "name", "wide", "netns", holder)
    subprocess.run([*network.enter, "sh", "-e"], input=WORLD, text=True, check=True)
    run("ip", "addr", "add", "203.0.113.1/24", "dev", "wide0")
    run("ip", "addr", "add", "2001:db8::1/64", "dev", "wide0", "nodad")
    run("ip", "link", "set", "wide0", "up")
    transport, zone = await asyncio.get_running_loop().create_datagram_endpoint(
        Zone, local_addr=("127.0.0.53", 53)
    )
    zone.put("good.test", GOOD)
    zone.put("bad.test", BAD)
    zone.put("api.good.test", BAD)
    servers = [await started(network.path, ECHO)]
    try:
        yield World(network, zone)
    finally:
        transport.close()
        for server in servers:
            server.kill()
            server.communicate()
        network.close()


def run(*command: str) -> None:
    subprocess.run(command, check=True)


async def started(namespace: str, program: str, *arguments: str) -> "subprocess.Popen[str]":
    """A program that has said that it is ready."""
    process = python_in(namespace, program, *arguments, stdin=subprocess.PIPE)
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    assert line == "ready\n", process.communicate()
    return process


async def told(sniffers: Iterable["subprocess.Popen[str]"]) -> list[list[str]]:
    """What each has heard by now. What a host says of its own groups on a link is no concern of ours."""
    await asyncio.sleep(0.2)
    heard = [(await asyncio.to_thread(s.communicate))[0].split() for s in sniffers]
    return [[frame for frame in frames if not frame.endswith(MULTICAST_REPORT)] for frames in heard]


def sent_by(box: Sandbox, house: House, frames: Iterable[str]) -> list[str]:
    macs = {e.mac.replace(":", "") for e in house.records.of_owner(box.owner.id)}
    return [frame for frame in frames if frame[:12] in macs]


async def resolve(sandbox: Sandbox, *names: str) -> list[str]:
    return (await output_in(sandbox.namespace.path, RESOLVE, *names)).split()


async def reaches(sandbox: Sandbox, address: str) -> bool:
    return await ask(sandbox, address, 80) == "hello"


def logged(house: House, sandbox: Sandbox, verdict: str) -> list[str]:
    return [e.destination for e in house.guard.entries(sandbox.owner.id) if e.verdict == verdict]


def mac(link: str) -> str:
    shown = subprocess.run(["ip", "-j", "link", "show", link], capture_output=True, text=True, check=True)
    return str(json.loads(shown.stdout)[0]["address"])


@pytest.mark.parametrize("network", ["one", "bridge"])
def test_none_lets_not_a_single_packet_through(network: str) -> None:
    async def scenario() -> None:
        async with world() as outside:
            house = House(SqliteState(":memory:"))
            house.networks.create(NetworkCreate(name="one", enable_ipv6=True))
            neighbour = await house.open("neighbour", network)
            link = house.networks.find(network).link
            sniffers = [
                await started(outside.network.path, SNIFF, "wide"),
                await started(neighbour.namespace.path, SNIFF, "eth0"),
                await started(HERE, SNIFF, link),
            ]
            box = await house.open("box", network, egress="none")
            await house.networks.connect(
                "bridge" if network == "one" else "one", box.owner, EndpointSettings()
            )
            gateway, near = house.gateway(network), house.address(neighbour)
            said = await output_in(box.namespace.path, ESCAPE, gateway, near, OUTSIDE, GOOD, mac(link))
            assert said == "tried 8"
            assert await resolve(box, "good.test", "x.attacker.test", "good.test/tcp") == ["-3"] * 3
            far, *near_by = await told(sniffers)
            assert far == []
            assert [sent_by(box, house, frames) for frames in near_by] == [[], []]
            assert outside.zone.asked == []
            refused = logged(house, box, REFUSED)
            assert {"good.test", "x.attacker.test", f"{GOOD}:80/tcp", f"{near}:53/udp"} <= set(refused)
            assert logged(house, box, ALLOWED) == []

    in_own_network(scenario)


def test_a_sniffer_hears_what_passes() -> None:
    """The test above means nothing if the sniffers are deaf."""

    async def scenario() -> None:
        async with world() as outside:
            house = House(SqliteState(":memory:"))
            neighbour = await house.open("neighbour", "bridge")
            link = house.networks.find("bridge").link
            sniffers = [
                await started(outside.network.path, SNIFF, "wide"),
                await started(neighbour.namespace.path, SNIFF, "eth0"),
                await started(HERE, SNIFF, link),
            ]
            box = await house.open("box", "bridge", egress="all")
            words = (house.gateway("bridge"), house.address(neighbour), OUTSIDE, GOOD, mac(link))
            await output_in(box.namespace.path, ESCAPE, *words)
            far, *near_by = await told(sniffers)
            assert len(far) > 5
            assert all(len(sent_by(box, house, frames)) > 5 for frames in near_by)

    in_own_network(scenario)


def test_a_name_opens_the_way_for_as_long_as_its_answer_lasts() -> None:
    async def scenario() -> None:
        async with world() as outside:
            outside.zone.put("short.test", GOOD, ttl=5 * PATIENCE)
            house = House(SqliteState(":memory:"))
            box = await house.open("box", "bridge", egress="short.test")
            assert not await reaches(box, GOOD)
            assert await resolve(box, "short.test") == [GOOD]
            assert await reaches(box, GOOD)
            long = python_in(box.namespace.path, LONG, GOOD, stdin=subprocess.PIPE)
            assert long.stdout is not None and long.stdin is not None
            assert await asyncio.to_thread(long.stdout.readline) == "hello\n"
            assert await resolve(box, "bad.test") == ["-3"]
            assert not await reaches(box, BAD)
            async with asyncio.timeout(20 * PATIENCE):
                while await reaches(box, GOOD):
                    pass
            long.stdin.write("\n")
            long.stdin.flush()
            assert await asyncio.to_thread(long.stdout.readline) == "again\n"  # what is connected stays
            assert await resolve(box, "short.test/tcp") == ["-2"]  # this server has no TCP: no answer, no way
            assert not await reaches(box, GOOD)
            assert await resolve(box, "SHORT.test") == [GOOD]
            assert await reaches(box, GOOD)
            long.kill()
            long.communicate()
            assert logged(house, box, ALLOWED) == [f"short.test {GOOD}"]
            assert "bad.test" in logged(house, box, REFUSED)

    in_own_network(scenario)


def test_names_below_a_name_ports_ranges_and_aliases() -> None:
    async def scenario() -> None:
        async with world() as outside:
            outside.zone.put("www.test", "good.test", kind="CNAME")
            outside.zone.put("metadata.test", "169.254.169.254")
            house = House(SqliteState(":memory:"))
            below = await house.open("below", "bridge", egress="*.good.test")
            assert await resolve(below, "good.test", "api.good.test") == ["-3", BAD]
            assert not await reaches(below, GOOD)
            assert await reaches(below, BAD)
            port = await house.open("port", "bridge", egress="good.test:81")
            assert await resolve(port, "good.test") == [GOOD]
            assert not await reaches(port, GOOD)
            port80 = await house.open("port80", "bridge", egress="good.test:81,www.test:80,metadata.test")
            assert await resolve(port80, "www.test") == [GOOD]
            assert await reaches(port80, GOOD)
            assert await resolve(port80, "metadata.test") == ["169.254.169.254"]
            assert logged(house, port80, ALLOWED) == [f"www.test {GOOD}"]
            ranges = await house.open("ranges", "bridge", egress="203.0.113.16/28")
            assert not await reaches(ranges, GOOD)
            assert await reaches(ranges, BAD)
            assert await output_in(ranges.namespace.path, PING, BAD) == "answer"
            with_port = await house.open("withport", "bridge", egress="203.0.113.0/24:80")
            assert await reaches(with_port, GOOD)
            assert await output_in(with_port.namespace.path, PING, GOOD) == "silence"

    in_own_network(scenario)


def test_containers_by_name_follow_the_records() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one"))
        web = await house.open("web", "one", egress="db:80")
        db = await house.open("db", "one")
        other = await house.open("other", "one")
        async with serving(db), serving(other):
            assert await ask(web, house.address(db), 80) == house.address(web)
            assert await ask(web, house.address(other), 80) == "no"
            assert await ask(other, house.address(db), 80) == house.address(other)
        before = house.address(db)
        await house.sandboxes.close(db.owner.id)
        third = await house.open("third", "one")
        again = await house.sandboxes.open(db.owner)
        async with serving(again), serving(third):
            assert house.address(again) != before
            assert await resolve(web, "db") == [house.address(again)]
            assert await ask(web, house.address(again), 80) == house.address(web)
            assert await ask(web, house.address(third), 80) == "no"

    in_own_network(scenario)


def test_who_may_not_go_out_still_answers() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one", enable_ipv6=True))
        web = await house.open("web", "one", port="8080", egress="none")
        db = await house.open("db", "one")
        async with serving(web):
            assert await ask(None, OUTSIDE, 8080) == OUTSIDE
            assert await ask(None, "127.0.0.1", 8080) == house.gateway("one")
            assert await ask(db, house.address(web), 80) == house.address(db)
            assert await ask(db, house.address(web, 6), 80) == house.address(db, 6)
        assert await output_in(db.namespace.path, PING, house.address(web)) == "answer"
        assert await output_in(web.namespace.path, PING, house.address(db)) == "silence"

    in_own_network(scenario)


REFUSAL = f"""
import errno, socket, sys
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(family, kind)
        s.settimeout({PATIENCE})
        try:
            s.connect((address, 80))
            s.send(b"x")
            s.recv(10)
            print("answer")
        except TimeoutError:
            print("silence")
        except OSError as error:
            print(errno.errorcode[error.errno])
"""


def test_a_refusal_is_heard_where_the_kernel_can_refuse_on_a_bridge() -> None:
    async def scenario() -> None:
        async with world():
            house = House(SqliteState(":memory:"))
            ipam = IPAM(config=(IPAMConfig(subnet="2001:db8:5::/64"),))
            house.networks.create(NetworkCreate(name="six", enable_ipv6=True, ipam=ipam))
            box = await house.open("box", "six", egress="192.0.2.77")
            said = await output_in(box.namespace.path, REFUSAL, GOOD, GOOD6)
            heard = ["ECONNREFUSED", "EHOSTUNREACH", "ECONNREFUSED", "EACCES"]  # TCP, UDP; IPv4, IPv6
            assert said.split() == (heard if refuses_on_bridges() else ["silence"] * 4)
            assert {f"{GOOD}:80/tcp", f"{GOOD}:80/udp"} <= set(logged(house, box, REFUSED))

    in_own_network(scenario)


def refuses_on_bridges() -> bool:
    """Whether this kernel has nft_reject_bridge."""
    nftables = Nftables()
    table = new_table("skiff-asks", family=NFPROTO_BRIDGE)
    chain = Chain("chain", "filter", "prerouting", 0)
    asked = [
        table,
        new_chain("skiff-asks", chain, family=NFPROTO_BRIDGE),
        new_rule("skiff-asks", "chain", [reject(reset=False)], family=NFPROTO_BRIDGE),
        delete_table("skiff-asks", family=NFPROTO_BRIDGE),
    ]
    try:
        nftables.commit(asked)
    except OSError:
        return False
    finally:
        nftables.close()
    return True


def test_ipv6_is_kept_the_same_way() -> None:
    async def scenario() -> None:
        async with world() as outside:
            outside.zone.put("six.test", GOOD6, kind="AAAA")
            house = House(SqliteState(":memory:"))
            ipam = IPAM(config=(IPAMConfig(subnet="2001:db8:5::/64"),))
            house.networks.create(NetworkCreate(name="six", enable_ipv6=True, ipam=ipam))
            box = await house.open("box", "six", egress="six.test")
            assert not await reaches(box, GOOD6)
            await output_in(box.namespace.path, "import socket; socket.getaddrinfo", "x")
            assert await output_in(box.namespace.path, RESOLVE, "six.test/aaaa") == GOOD6
            assert await reaches(box, GOOD6)
            range6 = await house.open("range6", "six", egress="2001:db8::/64")
            assert await reaches(range6, GOOD6)
            assert any(f"[{GOOD6}]:80/tcp" == entry for entry in logged(house, box, REFUSED))

    in_own_network(scenario)


def test_a_networks_own_policy_and_a_containers_before_it() -> None:
    async def scenario() -> None:
        async with world():
            house = House(SqliteState(":memory:"))
            house.networks.create(NetworkCreate(name="shut", options={OPTION: "none"}))
            house.networks.create(NetworkCreate(name="one"))
            box = await house.open("box", "shut")
            free = await house.open("free", "shut", egress="all")
            assert not await reaches(box, GOOD)
            assert await reaches(free, GOOD)
            assert await resolve(box, "good.test") == ["-3"]
            await house.networks.connect("one", box.owner, EndpointSettings(gw_priority=9))
            assert await resolve(box, "good.test") == [GOOD]
            run(*nsenter(box), "ip", "route", "replace", "default", "via", house.gateway("one"))
            assert await reaches(box, GOOD)
            await house.networks.disconnect("one", box.owner)
            assert not await reaches(box, GOOD)

    in_own_network(scenario)


def nsenter(sandbox: Sandbox) -> tuple[str, str]:
    return ("nsenter", f"--net={sandbox.namespace.path}")


def test_the_next_engine_keeps_what_was_kept_and_what_was_open() -> None:
    async def scenario() -> None:
        async with world():
            state = SqliteState(":memory:")
            first = House(state)
            box = await first.open("box", "bridge", egress="good.test")
            assert await resolve(box, "good.test") == [GOOD]
            assert not await reaches(box, BAD)
            keeper = await started(box.namespace.path, "print('ready', flush=True); input()")
            await first.sandboxes.shut_down()
            inside = f"/proc/{keeper.pid}/ns/net"
            for _ in range(2):  # with no engine, then with the next
                assert await output_in(inside, SHORT_ASK, GOOD) == "hello"
                assert await output_in(inside, SHORT_ASK, BAD) == "no"
                second = House(state)
                await second.sandboxes.reopen(box.owner, keeper.pid)
                second.sandboxes.forget_others({box.owner.id})
                second.sandboxes.apply_firewall()
            reopened = second.sandboxes
            assert [e.destination for e in second.guard.entries(box.owner.id) if e.verdict == REFUSED] == [
                f"{BAD}:80/tcp"
            ]
            await reopened.close(box.owner.id)
            left = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
            assert left.stdout == ""
            keeper.kill()
            keeper.communicate()

    in_own_network(scenario)


SHORT_ASK = """
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], 80), 0.5).recv(10).decode())
except OSError:
    print("no")
"""


def test_who_lives_on_in_the_namespace_gets_nothing_out() -> None:
    async def scenario() -> None:
        async with world() as outside:
            house = House(SqliteState(":memory:"))
            box = await house.open("box", "bridge", egress="none")
            lodger = await started(box.namespace.path, "print('ready', flush=True); input()")
            inside = f"/proc/{lodger.pid}/ns/net"
            sniffer = await started(outside.network.path, SNIFF, "wide")
            await house.sandboxes.close(box.owner.id)
            assert await output_in(inside, SHORT_ASK, GOOD) == "no"
            [heard] = await told([sniffer])
            assert [frame for frame in heard if not frame.endswith(ALL_ROUTERS)] == []
            lodger.kill()
            lodger.communicate()

    in_own_network(scenario)


NAME_SERVER = """
import socket, dnslib
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("192.0.2.1", 53))
print("ready", flush=True)
while True:
    data, who = s.recvfrom(512)
    answer = dnslib.DNSRecord.parse(data).reply()
    if answer.q.qtype == dnslib.QTYPE.A:
        answer.add_answer(dnslib.RR(answer.q.qname, rdata=dnslib.A("192.0.2.1"), ttl=60))
    s.sendto(answer.pack(), who)
"""


def test_both_command_lines_and_the_log(own_engine: Engine) -> None:
    docker, skiff, network = own_engine.docker, own_engine.skiff, own_engine.network
    resolver = python_in(network.path, NAME_SERVER)
    web = python_in(network.path, ECHO)
    for server in (resolver, web):
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def get(box: str) -> bool:
        return connects(int(docker("inspect", "-f", "{{.State.Pid}}", box).ok()))

    def knows(box: str, name: str) -> bool:
        return f"Address: {OUTSIDE}" in docker("exec", box, "nslookup", "-type=a", name).out

    try:
        flags = ("--dns", OUTSIDE, "busybox", "sleep", "600")
        skiff("run", "-d", "--name", "mine", "--egress", "good.test:80", *flags).ok()
        docker("run", "-d", "--name", "theirs", "--label", "skiff.egress=none", *flags).ok()
        docker("network", "create", "-o", "skiff.egress=none", "shut").ok()
        docker("run", "-d", "--name", "inside", "--network", "shut", *flags).ok()
        skiff("run", "-d", "--name", "free", "--network", "shut", "--egress", "all", *flags).ok()
        assert not get("mine")
        assert knows("mine", "good.test") and not knows("mine", "bad.test")
        assert get("mine")
        pids = [int(docker("inspect", "-f", "{{.State.Pid}}", box).ok()) for box in ("mine", "theirs")]
        own_engine.crash()
        assert [connects(pid) for pid in pids] == [True, False]  # with no engine to ask
        own_engine.start()
        assert get("mine") and get("free") and knows("free", "any.test")
        assert not any(knows(box, "good.test") or get(box) for box in ("theirs", "inside"))
        docker("network", "connect", "bridge", "inside").ok()
        docker("network", "disconnect", "shut", "inside").ok()
        assert get("inside")
        assert docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", "mine").ok() == "bridge"
        asked = json.loads(own_engine.client.get("/containers/theirs/json").body)
        assert asked["HostConfig"]["Egress"] == "none"
        docker("restart", "-t", "0", "theirs").ok()
        assert not get("theirs")
        form = ("--format", "{{.Verdict}} {{.Destination}}")
        assert "allowed good.test 192.0.2.1" in skiff("egress", "log", *form, "mine").ok().splitlines()
        said = skiff("egress", "log", *form, "theirs").ok().splitlines()
        assert set(said) == {"refused 192.0.2.1:80/tcp", "refused good.test"}
        docker("stop", "-t", "0", "theirs").ok()
        assert skiff("egress", "log", *form, "theirs").ok().splitlines() == said
        for words in (("--network", "host"), ("--network", "container:mine")):
            refused = skiff("run", "--rm", "--egress", "none", *words, "busybox", "true")
            assert (refused.code, "an egress policy needs a network" in refused.err) == (125, True)
        wrong = skiff("create", "--egress", "good.test:http", "busybox")
        assert (wrong.code, "invalid egress destination" in wrong.err) == (1, True)
    finally:
        for process in (resolver, web):
            process.kill()
            process.communicate()


def connects(pid: int) -> bool:
    """From the network of that process."""
    program = "import socket, sys; socket.create_connection((sys.argv[1], 80), 0.5)"
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", program, OUTSIDE]
    return subprocess.run(command, capture_output=True).returncode == 0
