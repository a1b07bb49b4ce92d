"""What options of networks and endpoints do to packets and interfaces, in a namespace of the test's own."""

import json
import subprocess
from typing import Any

import pytest

from skiff.docker.network import (
    IPAM,
    ConfigReference,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    NetworkCreate,
)
from skiff.engine.networks.sandboxes import Sandbox
from skiff.engine.storage.state import SqliteState
from skiff.errors import Conflict, Forbidden, InvalidParameter, NotFound, SkiffError
from tests.integration.house import ASK, FAR, House, ask, outside, serving
from tests.integration.own_network import in_own_network, output_in

pytestmark = pytest.mark.root

MODE4 = "com.docker.network.bridge.gateway_mode_ipv4"


def shown(sandbox: Sandbox, *words: str) -> Any:
    command = ["nsenter", f"--net={sandbox.namespace.path}", "ip", "-j", *words]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout or b"[]")


def test_gateway_modes() -> None:
    async def scenario() -> None:
        async with outside() as far:
            house = House(SqliteState(":memory:"))
            for mode in ("nat", "nat-unprotected", "routed"):
                house.networks.create(NetworkCreate(name=mode, options={MODE4: mode}))
            reached = {}
            for number, mode in enumerate(("nat", "nat-unprotected", "routed")):
                web = await house.open(f"web{number}", mode, port=str(8080 + number))
                plain = await house.open(f"plain{number}", mode)
                async with serving(web), serving(plain):
                    reached[mode] = [
                        await output_in(far, ASK, address, port)
                        for address, port in (
                            ("203.0.113.1", str(8080 + number)),  # by the host's port
                            (house.address(web), "80"),  # a published port at the container's address
                            (house.address(plain), "80"),  # one that is not published
                        )
                    ]
            assert reached == {
                "nat": [FAR, "no", "no"],
                "nat-unprotected": [FAR, FAR, FAR],
                "routed": ["no", FAR, "no"],
            }
            (port,) = [p for p in house.sandboxes.published(web.owner.id) if ":" not in p.host]
            assert port.host_port == 0

    in_own_network(scenario)


def test_a_routed_network_is_seen_as_it_is() -> None:
    async def scenario() -> None:
        async with outside() as far:
            house = House(SqliteState(":memory:"))
            house.networks.create(NetworkCreate(name="routed", options={MODE4: "routed"}))
            box = await house.open("box", "routed")
            server = Sandbox(box.owner, box.namespace)
            server.namespace = type(box.namespace).of_process(int(far.split("/")[2]))
            async with serving(server):
                assert await ask(box, FAR, 80) == house.address(box)

    in_own_network(scenario)


def test_an_isolated_network_has_no_host() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        options = {MODE4: "isolated"}
        with pytest.raises(InvalidParameter, match="can only be used for an internal network"):
            house.networks.create(NetworkCreate(name="open", options=options))
        with pytest.raises(InvalidParameter, match="unknown gateway mode bogus"):
            house.networks.create(NetworkCreate(name="bogus", options={MODE4: "bogus"}))
        network = house.networks.create(NetworkCreate(name="shut", internal=True, options=options))
        one, two = await house.open("one", "shut"), await house.open("two", "shut")
        async with serving(one):
            assert await ask(two, house.address(one), 80) == house.address(two)
            assert await ask(None, house.address(one), 80) == "no"
        shown_bridge = ["ip", "-4", "addr", "show", network.link]
        bridge = subprocess.run(shown_bridge, capture_output=True, check=True)
        assert b"inet" not in bridge.stdout

    in_own_network(scenario)


def test_names_and_settings_of_interfaces() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(
            NetworkCreate(name="lan", options={"com.docker.network.container_iface_prefix": "lan"})
        )
        house.networks.create(NetworkCreate(name="other"))
        endpoint = "com.docker.network.endpoint."
        box = await house.open("box", "lan", "bridge")
        settings = EndpointSettings(
            driver_opts={
                endpoint + "ifname": "data0",
                endpoint + "sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
            }
        )
        with pytest.raises(InvalidParameter, match=r"(?s)invalid sysctl.*is not known"):
            bad = {endpoint + "sysctls": "kernel.panic=1", endpoint + "nope": ""}
            await house.networks.connect("other", box.owner, EndpointSettings(driver_opts=bad))
        with pytest.raises(SkiffError, match="Permission denied"):
            fixed = {endpoint + "sysctls": "net.ipv4.conf.IFNAME.mc_forwarding=1"}
            await house.networks.connect("other", box.owner, EndpointSettings(driver_opts=fixed))
        await house.networks.connect("other", box.owner, settings)
        assert [link["ifname"] for link in shown(box, "link")] == ["lo", "lan0", "eth0", "data0"]
        read = "print(open('/proc/sys/net/ipv4/conf/data0/log_martians').read())"
        assert await output_in(box.namespace.path, read) == "1"
        with pytest.raises(Conflict, match="data0 is there already"):
            house.networks.create(NetworkCreate(name="third"))
            await house.networks.connect("third", box.owner, settings)

    in_own_network(scenario)


def test_link_local_addresses() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        house.networks.create(NetworkCreate(name="one"))
        wish = EndpointIPAMConfig(link_local_ips=("169.254.34.68", "fe80::77"))
        box = await house.open("box", "one", ipam_config=wish)
        (link,) = shown(box, "addr", "show", "eth0")
        found = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
        assert {"169.254.34.68/16", "fe80::77/64"} <= found
        with pytest.raises(InvalidParameter, match=r"invalid link local IP address: 10\.1\.2\.3"):
            await house.open("bad", "one", ipam_config=EndpointIPAMConfig(link_local_ips=("10.1.2.3",)))

    in_own_network(scenario)


def test_the_way_out_of_each_address_family() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        for name in ("a", "b"):
            house.networks.create(NetworkCreate(name=name))
        for name in ("both", "second"):
            house.networks.create(NetworkCreate(name=name, enable_ipv6=True))
        house.networks.create(NetworkCreate(name="six", enable_ipv4=False, enable_ipv6=True))
        box = await house.open("box", "a")

        def ways() -> tuple[list[str], list[str]]:
            four, six = (shown(box, f"-{version}", "route", "show", "default") for version in (4, 6))
            return [route["dev"] for route in four], [route["dev"] for route in six]

        seen = [ways()]
        for name, priority in (("b", 5), ("six", 0), ("both", 0), ("second", 9)):
            await house.networks.connect(name, box.owner, EndpointSettings(gw_priority=priority))
            seen.append(ways())
        assert seen == [
            (["eth0"], []),
            (["eth1"], []),
            (["eth1"], ["eth2"]),
            (["eth3"], ["eth3"]),  # both families come before any priority, as in Docker
            (["eth4"], ["eth4"]),
        ]
        for name in ("a", "second", "both", "six", "b"):
            await house.networks.disconnect(name, box.owner)
            seen.append(ways())
        assert seen[5:] == [
            (["eth4"], ["eth4"]),
            (["eth3"], ["eth3"]),
            (["eth1"], ["eth2"]),
            (["eth1"], []),
            ([], []),
        ]

    in_own_network(scenario)


def test_networks_made_from_a_configuration() -> None:
    async def scenario() -> None:
        house = House(SqliteState(":memory:"))
        ipam = IPAM(config=(IPAMConfig(subnet="10.94.0.0/24", gateway="10.94.0.9"),))
        house.networks.create(NetworkCreate(name="plan", config_only=True, ipam=ipam, labels={"x": "y"}))
        made = house.networks.create(NetworkCreate(name="one", config_from=ConfigReference("plan")))
        assert (made.labels, house.gateway("one")) == ({"x": "y"}, "10.94.0.9")
        box = await house.open("box", "one")
        assert house.address(box) == "10.94.0.1"
        with pytest.raises(Forbidden, match='configuration network "plan" is in use'):
            house.networks.remove("plan")
        with pytest.raises(Forbidden, match="configuration-only network"):
            await house.open("other", "plan")
        for wish, error, words in (
            (NetworkCreate(name="n", config_from=ConfigReference("one")), NotFound, "does not exist"),
            (NetworkCreate(name="n", config_only=True, internal=True), Forbidden, "Network operator fields"),
            (
                NetworkCreate(name="n", config_from=ConfigReference("plan"), options={"a": "b"}),
                Forbidden,
                "driver options are not supported",
            ),
            (
                NetworkCreate(name="n", config_from=ConfigReference("plan"), ipam=ipam),
                Forbidden,
                "user specified configurations are not supported",
            ),
        ):
            with pytest.raises(error, match=words):
                house.networks.create(wish)
        await house.sandboxes.close(box.owner.id)
        house.networks.forget(box.owner.id)
        assert house.networks.prune() == ["one"]
        house.networks.remove("plan")

    in_own_network(scenario)
