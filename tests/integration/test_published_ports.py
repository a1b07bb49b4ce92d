"""Published ports as the world reaches them: UDP, IPv6, one address; clients keep their own address."""

import asyncio
import socket

import pytest
from msgspec.structs import replace

from skiff.docker.network import NetworkCreate, PortBinding
from skiff.engine.storage.state import SqliteState
from tests.integration.house import ASK, FAR, FAR6, HERE, NEAR, NEAR6, House, ask, outside, serving
from tests.integration.own_network import OUTSIDE, in_own_network, output_in, python_in

pytestmark = pytest.mark.root

SERVE_UDP = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("", 80))
print("ready", flush=True)
while True:
    data, address = s.recvfrom(70000)
    s.sendto(address[0].removeprefix("::ffff:").encode() + b" %d" % len(data), address)
"""
ASK_UDP = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.7)
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.send(b"x" * int(sys.argv[3]))
    print(s.recv(100).decode())
except OSError:
    print("no")
"""


def test_udp_is_published_like_tcp() -> None:
    async def scenario() -> None:
        async with outside() as far:
            house = House(SqliteState(":memory:"))
            house.networks.create(NetworkCreate(name="one"))
            web = await house.open("web", "one", port="8080", protocol="udp")
            other = await house.open("other", "bridge")
            gateway = house.gateway("one")

            async def said(namespace: str, address: str, size: int = 10) -> str:
                return await output_in(namespace, ASK_UDP, address, "8080", str(size))

            async with serving(web, SERVE_UDP):
                assert await said(far, NEAR) == f"{FAR} 10"
                assert await said(far, NEAR, 5000) == f"{FAR} 5000"  # in fragments
                assert await said(HERE, OUTSIDE) == f"{OUTSIDE} 10"
                assert await said(HERE, "127.0.0.1") == f"{gateway} 10"
                assert await said(HERE, "::1") == f"{gateway} 10"
                assert await said(far, NEAR6) == f"{gateway} 10"
                assert await said(other.namespace.path, OUTSIDE) != "no"
                assert await said(web.namespace.path, OUTSIDE) != "no"
                assert await ask(None, OUTSIDE, 8080) == "no"

    in_own_network(scenario)


def test_ipv6_from_outside_keeps_its_address() -> None:
    async def scenario() -> None:
        async with outside() as far:
            house = House(SqliteState(":memory:"))
            house.networks.create(NetworkCreate(name="six", enable_ipv6=True))
            web = await house.open("web", "six", port="8080")
            sibling = await house.open("sibling", "six")
            other = await house.open("other", "bridge")
            async with serving(web):
                async with asyncio.timeout(10):  # until the links' own addresses are no duplicates
                    while await output_in(far, ASK, NEAR6, "8080") != FAR6:
                        pass
                assert await output_in(far, ASK, NEAR, "8080") == FAR
                assert await output_in(far, ASK, house.address(web, 6), "80") == "no"
                assert await ask(None, "::1", 8080) == house.gateway6("six")
                assert await ask(None, NEAR6, 8080) == NEAR6
                assert await ask(web, NEAR6, 8080) == house.gateway6("six")  # itself, by the host
                assert await ask(sibling, NEAR6, 8080) == house.gateway6("six")
                assert await ask(other, NEAR, 8080) != "no"

    in_own_network(scenario)


def test_a_port_of_one_address_is_there_alone() -> None:
    async def scenario() -> None:
        async with outside() as far:
            house = House(SqliteState(":memory:"))
            inner = await house.open("inner", "bridge", port="8080", host="127.0.0.1")
            outer = await house.open("outer", "bridge", port="8080", host=NEAR)
            async with serving(inner), serving(outer):
                assert await ask(None, "127.0.0.1", 8080) == house.gateway("bridge")
                assert await ask(None, OUTSIDE, 8080) == "no"
                assert await output_in(far, ASK, NEAR, "8080") == FAR

    in_own_network(scenario)


def test_a_port_that_another_took_leaves_the_others_their_relays() -> None:
    """It was about to come when the earlier engine was killed."""

    async def scenario() -> None:
        state = SqliteState(":memory:")
        first = House(state)
        first.networks.create(NetworkCreate(name="one"))
        web = await first.open("web", "one", port="8080")
        async with serving(web):
            keeper = python_in(web.namespace.path, "import time; print('up', flush=True); time.sleep(60)")
            assert keeper.stdout is not None
            await asyncio.to_thread(keeper.stdout.readline)
            await first.sandboxes.shut_down()

            more = {**web.owner.ports, "81/tcp": (PortBinding(host_port="9090"),)}
            second = House(state)
            with socket.create_server(("", 9090)):
                await second.sandboxes.reopen(replace(web.owner, ports=more), keeper.pid)
            second.sandboxes.apply_firewall()
            assert await ask(None, OUTSIDE, 8080) == OUTSIDE
            assert await ask(None, "::1", 8080) != "no"
            await second.sandboxes.shut_down()
            keeper.kill()
            keeper.communicate()

    in_own_network(scenario)
