"""Real packets between sandboxes, the host and an address of the host's, in a namespace of the test's own."""

import asyncio
import subprocess
import time

import pytest
from msgspec.structs import replace

from skiff.docker.network import (
    IPAM,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    NetworkCreate,
    PortBinding,
)
from skiff.engine.networks.passage import Passage
from skiff.engine.networks.ruleset import SETS
from skiff.engine.networks.sandbox import Namespace
from skiff.engine.networks.sandboxes import Sandbox
from skiff.engine.storage.state import SqliteState
from skiff.errors import SkiffError, Unavailable
from skiff.linux import links
from skiff.linux.nftables import Nftables
from tests.integration.house import ASK, FAR, HERE, NEAR, RESOLVE, SERVE, House, ask, outside, serving
from tests.integration.own_network import OUTSIDE, PATIENCE, in_own_network, output_in, python_in

pytestmark = pytest.mark.root

STORM = """
import socket, struct
names = [f"c{n % 10}" for n in range(1000)]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 2 << 20)
s.settimeout(5)
for id, name in enumerate(names):
    question = bytes([len(name)]) + name.encode() + bytes([0, 0, 1, 0, 1])
    s.sendto(struct.pack(">6H", id, 256, 1, 0, 0, 0) + question, ("127.0.0.11", 53))
answers = {}
while len(answers) < 1000:
    answer = s.recv(512)
    answers[int.from_bytes(answer[:2], "big")] = socket.inet_ntoa(answer[-4:])
print(*(answers[n] for n in range(1000)))
"""


def test_containers_reach_each_other_by_name_and_others_do_not() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one"))
        house.networks.create(NetworkCreate(name="two"))
        web = await house.open("web", "one", aliases=("www",))
        db = await house.open("db", "one")
        stranger = await house.open("stranger", "two")
        async with serving(web):
            assert await ask(db, house.address(web), 80) == house.address(db)
            assert await ask(stranger, house.address(web), 80) == "no"
            assert await ask(None, house.address(web), 80) != "no"
        words = ["web", "WWW", "web.one", web.owner.id[:12], "web/tcp", "nothing"]
        said = (await output_in(db.namespace.path, RESOLVE, *words)).split()
        assert said == [house.address(web)] * 5 + ["-2"]
        assert await output_in(stranger.namespace.path, RESOLVE, "web") == "-2"

    in_own_network(scenario)


def test_the_gateway_s_mac_address_stays_as_containers_come_and_go() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        network = house.networks.create(NetworkCreate(name="one"))

        def mac() -> str:
            found = links.find(house.netlink, network.link)
            assert found is not None
            return found.mac

        before = mac()
        boxes = [await house.open(f"c{n}", "one") for n in range(3)]
        assert mac() == before
        for box in boxes:
            await house.sandboxes.close(box.owner.id)
        await asyncio.sleep(0.1)
        assert mac() == before

    in_own_network(scenario)


def test_an_interface_is_told_from_links_that_a_container_has_made() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        for name in ("one", "two", "three"):
            house.networks.create(NetworkCreate(name=name))
        box = await house.open("box", "one", "two")
        box.namespace.netlink.request(links.bridge("taken"))
        await house.networks.connect("three", box.owner, EndpointSettings())
        named = {link.number: link.name for link in links.links(box.namespace.netlink)}
        held = links.addresses(box.namespace.netlink)
        found = {named[number]: str(interface.ip) for number, interface in held if interface.version == 4}
        wanted = {e.interface: str(e.addresses()[0]) for e in house.records.of_owner(box.owner.id)}
        assert sorted(wanted) == ["eth0", "eth1", "eth2"]
        assert {name: found.get(name) for name in wanted} == wanted

    in_own_network(scenario)


def test_a_thousand_lookups_in_parallel() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one"))
        boxes = [await house.open(f"c{n}", "one") for n in range(10)]
        answers = (await output_in(boxes[0].namespace.path, STORM)).split()
        assert answers == [house.address(box) for box in boxes] * 100

    in_own_network(scenario)


def test_a_published_port_is_reached_from_everywhere() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one"))
        web = await house.open("web", "one", port="8080")
        sibling = await house.open("sibling", "one")
        other = await house.open("other", "bridge")
        gateway = house.networks.find("one").ranges[0].gateway
        async with serving(web):
            assert await ask(None, OUTSIDE, 8080) == OUTSIDE  # the client's own address
            assert await ask(None, "127.0.0.1", 8080) == gateway
            assert await ask(None, "::1", 8080) == gateway
            for container in (sibling, other, web):
                assert await ask(container, OUTSIDE, 8080) != "no"
            await house.sandboxes.close(web.owner.id)
            assert await ask(None, OUTSIDE, 8080) == "no"

    in_own_network(scenario)


def test_the_hosts_loopback_stays_closed_to_containers() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        box = await house.open("box", "bridge")
        gateway = house.networks.find("bridge").ranges[0].gateway
        inside = ["nsenter", f"--net={box.namespace.path}", "ip"]
        subprocess.run([*inside, "addr", "del", "127.0.0.1/8", "dev", "lo"], check=True)
        subprocess.run([*inside, "route", "add", "127.0.0.0/8", "via", gateway], check=True)
        server = python_in(
            HERE, SERVE.replace('("", 80), family=socket.AF_INET6, dualstack_ipv6=True', '("127.0.0.1", 80)')
        )
        assert server.stdout is not None
        await asyncio.to_thread(server.stdout.readline)
        try:
            assert await ask(box, "127.0.0.1", 80) == "no"
        finally:
            server.kill()
            server.communicate()

    in_own_network(scenario)


def test_ipv6_works_end_to_end() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="six", enable_ipv6=True))
        web = await house.open("web", "six", port="8080")
        db = await house.open("db", "six")
        house.networks.create(NetworkCreate(name="others", enable_ipv6=True))
        stranger = await house.open("stranger", "others")
        async with serving(web):
            assert await ask(db, house.address(web, 6), 80) == house.address(db, 6)
            assert await ask(stranger, house.address(web, 6), 80) == "no"
            assert await ask(None, house.address(web, 6), 80) == house.gateway6("six")
        assert await output_in(db.namespace.path, RESOLVE, "web/aaaa") == house.address(web, 6)
        assert await output_in(stranger.namespace.path, RESOLVE, "web/aaaa") == "-2"

    in_own_network(scenario)


def test_an_internal_network_leads_nowhere() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="inside", internal=True))
        box = await house.open("box", "inside")
        routes = await output_in(box.namespace.path, "print(open('/proc/net/route').read().count('eth0'))")
        assert routes == "1"  # the subnet, and no default
        near = await house.open("near", "inside")
        web = await house.open("web", "bridge")
        own = ["nsenter", f"--net={box.namespace.path}", "ip", "route", "add"]
        subprocess.run([*own, "default", "via", house.gateway("inside")], check=True)  # it finds one itself
        async with outside() as far:
            server = python_in(far, SERVE)
            assert server.stdout is not None
            assert await asyncio.to_thread(server.stdout.readline) == "ready\n"
            async with serving(web), serving(near):
                assert await ask(web, FAR, 80) == NEAR  # who is on no such network
                assert await ask(box, FAR, 80) == "no"
                assert await ask(box, house.address(web), 80) == "no"
                assert await ask(web, house.address(near), 80) == "no"
                assert await ask(box, house.address(near), 80) == house.address(box)
            server.kill()
            server.communicate()

    in_own_network(scenario)


def test_connect_and_disconnect_while_running() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        ipam = IPAM(config=(IPAMConfig(subnet="172.18.0.0/16"),))
        house.networks.create(NetworkCreate(name="one", ipam=ipam))
        web = await house.open("web", "bridge")
        db = await house.open("db", "one")
        async with serving(web):
            settings = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="172.18.0.77"))
            await house.networks.connect("one", web.owner, settings)
            assert await ask(db, "172.18.0.77", 80) == house.address(db)
            assert await output_in(db.namespace.path, RESOLVE, "web") == "172.18.0.77"
            await house.networks.disconnect("one", web.owner)
            assert await ask(db, "172.18.0.77", 80) == "no"
            assert await output_in(db.namespace.path, RESOLVE, "web") == "-2"
        assert [e.action for e in house.events] == ["create", "connect", "disconnect"]

    in_own_network(scenario)


def test_some_come_while_others_leave() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one"))
        boxes = [await house.open(f"box{n}", "bridge", "one") for n in range(10)]
        async with asyncio.timeout(20):
            await asyncio.gather(
                *(house.networks.disconnect("one", box.owner) for box in boxes),
                *(house.open(f"new{n}", "bridge", "one") for n in range(10)),
            )
        attached = [e.link for e in house.records.attached()]
        there = [link.name for link in links.links(house.netlink) if link.kind == "veth"]
        assert sorted(attached) == sorted(there)
        assert len(there) == 30

    in_own_network(scenario)


def test_ports_move_with_the_way_out() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one"))
        web = await house.open("web", "bridge", port="8080")
        await house.networks.connect("one", web.owner, EndpointSettings())
        async with serving(web):
            assert await ask(None, OUTSIDE, 8080) == OUTSIDE
            await house.networks.disconnect("bridge", web.owner)
            assert await ask(None, OUTSIDE, 8080) == OUTSIDE

    in_own_network(scenario)


def test_ports_come_and_go_while_running() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        web = await house.open("web", "bridge", port="8080")
        async with serving(web):
            both = {"80/tcp": (PortBinding(host_port="8080"), PortBinding(host_port="8081"))}
            await house.sandboxes.republish(replace(web.owner, ports=both))
            assert [await ask(None, OUTSIDE, port) for port in (8080, 8081)] == [OUTSIDE] * 2
            await house.sandboxes.republish(replace(web.owner, ports={}))
            assert [await ask(None, OUTSIDE, port) for port in (8080, 8081)] == ["no"] * 2

    in_own_network(scenario)


def test_a_port_in_use_refuses_the_start_and_leaves_nothing() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        await house.open("first", "bridge", port="8080")
        with pytest.raises(Unavailable, match="port is already allocated"):
            await house.open("second", "bridge", port="8080")
        assert len([e for e in house.records.endpoints.values() if e.is_attached]) == 1

    in_own_network(scenario)


def test_exhausted_addresses_are_a_clear_error() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        small = IPAM(config=(IPAMConfig(subnet="10.9.0.0/30"),))
        house.networks.create(NetworkCreate(name="small", ipam=small))
        await house.open("only", "small")
        with pytest.raises(SkiffError, match="no available IPv4 addresses on this network's address pools"):
            await house.open("late", "small")

    in_own_network(scenario)


def test_the_next_engine_finds_the_network_as_it_was() -> None:
    async def scenario() -> None:
        state = SqliteState(":memory:")
        first = House(state)
        first.networks.create(NetworkCreate(name="one"))
        web = await first.open("web", "one", port="8080")
        gone = await first.open("gone", "one")
        db = await first.open("db", "one")
        address = first.address(web)
        async with serving(web):
            keeper = python_in(web.namespace.path, "import time; print('up', flush=True); time.sleep(60)")
            other = python_in(db.namespace.path, "import time; print('up', flush=True); time.sleep(60)")
            for process in (keeper, other):
                assert process.stdout is not None
                await asyncio.to_thread(process.stdout.readline)
            await first.sandboxes.shut_down()

            second = House(state)
            await second.sandboxes.reopen(web.owner, keeper.pid)
            await second.sandboxes.reopen(db.owner, other.pid)
            second.sandboxes.forget_others({web.owner.id, db.owner.id})
            second.sandboxes.apply_firewall()
            assert await ask(None, OUTSIDE, 8080) == OUTSIDE
            assert await ask(None, "::1", 8080) != "no"
            assert await output_in(f"/proc/{other.pid}/ns/net", RESOLVE, "web") == address
            assert await output_in(f"/proc/{other.pid}/ns/net", RESOLVE, "gone") == "-2"
            assert not second.records.of_owner(gone.owner.id)[0].is_attached
            for process in (keeper, other):
                process.kill()
                process.communicate()

    in_own_network(scenario)


def test_the_kernel_holds_what_the_records_say_and_nothing_at_the_end() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        for number in range(20):
            house.networks.create(NetworkCreate(name=f"n{number}"))
        boxes = [await house.open(f"box{n}", f"n{n}", port=str(9000 + n)) for n in range(20)]
        nftables = Nftables()
        assert len(nftables.elements("skiff-test", "pub4_any")) == 20
        assert len(nftables.elements("skiff-test", "bridges")) == 20
        for box in boxes:
            await house.sandboxes.close(box.owner.id)
            house.networks.forget(box.owner.id)
        assert not nftables.has_table("skiff-test")
        assert len(house.networks.prune()) == 20
        left = [link.name for link in links.links(house.netlink) if link.name.startswith("br-")]
        assert left == []
        assert len(SETS) == 17

    in_own_network(scenario)


def test_two_hundred_networks() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        began = time.monotonic()
        for number in range(200):
            subnet = f"10.{100 + number // 100}.{number % 100}.0/24"
            ipam = IPAM(config=(IPAMConfig(subnet=subnet),))
            house.networks.create(NetworkCreate(name=f"n{number}", ipam=ipam))
        boxes = [await house.open(f"box{n}", f"n{n}") for n in (0, 7, 199)]
        async with serving(boxes[0]):
            assert await ask(boxes[2], house.address(boxes[0]), 80) == "no"
            assert await ask(None, house.address(boxes[0]), 80) == house.gateway("n0")
        for box in boxes:
            await house.sandboxes.close(box.owner.id)
            house.networks.forget(box.owner.id)
        assert len(house.networks.prune()) == 200
        assert time.monotonic() - began < 20 * PATIENCE

    in_own_network(scenario)


def test_what_an_earlier_engine_left_half_done_is_completed() -> None:
    async def scenario() -> None:
        state = SqliteState(":memory:")
        first = House(state)
        for name in ("one", "two", "three"):
            first.networks.create(NetworkCreate(name=name))
        web = await first.open("web", "one", "two", "three", port="8080")
        keeper = python_in(web.namespace.path, "import time; print('up', flush=True); time.sleep(60)")
        assert keeper.stdout is not None
        await asyncio.to_thread(keeper.stdout.readline)
        whole, down, absent = first.records.of_owner(web.owner.id)
        inside = ["nsenter", f"--net={web.namespace.path}", "ip", "link"]
        subprocess.run([*inside, "set", down.interface, "down"], check=True)
        subprocess.run([*inside, "del", absent.interface], check=True)
        await first.sandboxes.shut_down()

        second = House(state)
        await second.sandboxes.reopen(web.owner, keeper.pid)
        second.sandboxes.apply_firewall()
        found = second.records.of_owner(web.owner.id)
        assert whole in found
        assert all(endpoint.is_attached for endpoint in found)
        reopened = Sandbox(web.owner, Namespace.of_process(keeper.pid))
        async with serving(reopened):
            for address in (e.addresses()[0] for e in found):
                assert await ask(None, str(address), 80) != "no"
            assert await ask(None, OUTSIDE, 8080) == OUTSIDE
        bridged = [link.name for link in links.links(second.netlink) if link.kind == "veth"]
        assert sorted(bridged) == sorted(e.link for e in found)
        keeper.kill()
        keeper.communicate()

    in_own_network(scenario)


def test_a_macvlan_stands_beside_its_parent() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        subprocess.run(["ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1"], check=True)
        subprocess.run(["ip", "link", "set", "up0", "up"], check=True)
        subprocess.run(["ip", "link", "set", "up1", "up"], check=True)
        subprocess.run(["ip", "addr", "add", "10.77.0.1/24", "dev", "up1"], check=True)
        wish = NetworkCreate(
            name="lan",
            driver="macvlan",
            options={"parent": "up0"},
            ipam=IPAM(config=(IPAMConfig(subnet="10.77.0.0/24", gateway="10.77.0.1"),)),
        )
        house.networks.create(wish)
        web = await house.open("web", "lan")
        db = await house.open("db", "lan")
        async with serving(web):
            assert await ask(db, house.address(web), 80) == house.address(db)
            assert await ask(None, house.address(web), 80) == "10.77.0.1"

    in_own_network(scenario)


def test_kinds_of_links_that_are_missing_are_named() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        for wish, words in (
            (NetworkCreate(name="a", driver="macvlan"), "needs a parent link"),
            (NetworkCreate(name="b", driver="macvlan", options={"parent": "nope"}), "does not exist"),
            (
                NetworkCreate(name="c", driver="macvlan", options={"parent": "lo", "macvlan_mode": "x"}),
                "mode 'x' is not valid",
            ),
        ):
            with pytest.raises(SkiffError, match=words):
                house.networks.create(wish)
        assert [n.name for n in house.networks.all()] == ["bridge", "host", "none"]

    in_own_network(scenario)


INPUT_DROP = """
table ip filter {
    chain INPUT {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established accept
    }
}
"""


def test_a_host_that_drops_what_comes_in() -> None:
    async def scenario() -> None:
        subprocess.run(["nft", "-f", "-"], input=INPUT_DROP, text=True, check=True)
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one"))
        web = await house.open("web", "one", port="8080")
        db = await house.open("db", "one")
        async with serving(web):
            assert await ask(db, house.address(web), 80) == house.address(db)
            assert await output_in(db.namespace.path, RESOLVE, "web") == house.address(web)
            for client in (None, db, web):
                assert await ask(client, OUTSIDE, 8080) != "no"
            async with outside() as far:
                assert await output_in(far, ASK, NEAR, "8080") == FAR
                assert await output_in(far, ASK, NEAR, "9999") == "no"

    in_own_network(scenario)


FORWARD_DROP = "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }"


@pytest.mark.parametrize("passes", [True, False])
def test_a_host_that_drops_what_it_forwards(passes: bool) -> None:
    async def scenario() -> None:
        subprocess.run(["nft", "-f", "-"], input=FORWARD_DROP, text=True, check=True)
        house = House(SqliteState(":memory:"), Passage("SKIFF-TEST") if passes else None)
        web = await house.open("web", "bridge", port="8080")
        db = await house.open("db", "bridge")
        house.networks.create(NetworkCreate(name="other"))
        other = await house.open("other", "other")
        async with serving(web):
            assert await ask(other, OUTSIDE, 8080) == (house.gateway("bridge") if passes else "no")
            assert await ask(other, house.address(web), 80) == "no"
            if passes:
                assert await ask(db, house.address(web), 80) == house.address(db)
        for box in (web, db, other):
            await house.sandboxes.close(box.owner.id)
        left = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        assert "SKIFF-TEST" not in left
        assert "policy drop" in left

    in_own_network(scenario)
