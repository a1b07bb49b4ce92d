"""Networks on the real kernel, in a namespace of the test's own: no engine, no process but the test's."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from skiff.docker.event import Event
from skiff.docker.network import EndpointSettings, PortBinding
from skiff.engine.networks.bridge import BridgeDriver
from skiff.engine.networks.driver import NetworkDriver
from skiff.engine.networks.firewall import Firewall
from skiff.engine.networks.guard import Guard
from skiff.engine.networks.ipam import DEFAULT_POOLS, unique_local
from skiff.engine.networks.passage import Passage
from skiff.engine.networks.record import Owner, Records
from skiff.engine.networks.sandboxes import Sandbox, Sandboxes
from skiff.engine.networks.service import Networks
from skiff.engine.networks.vlan import SubLinkDriver
from skiff.engine.storage.state import SqliteState
from skiff.linux import links
from skiff.linux.netlink import NetlinkSocket
from tests.integration.own_network import PATIENCE, Network, output_in, python_in

SERVE = """
import socket
server = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client, address = server.accept()
    client.sendall(address[0].removeprefix("::ffff:").encode())
    client.close()
"""
ASK = f"""
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), {0.7 * PATIENCE}).recv(100).decode())
except OSError:
    print("no")
"""
RESOLVE = """
import socket, struct, sys
def ask(name, kind=1, tcp=False):
    question = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\\0"
    message = struct.pack(">6H", 7, 256, 1, 0, 0, 0) + question + struct.pack(">2H", kind, 1)
    if tcp:
        s = socket.create_connection(("127.0.0.11", 53), 2)
        s.sendall(struct.pack(">H", len(message)) + message)
        answer = s.recv(512)[2:]
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.sendto(message, ("127.0.0.11", 53))
        answer = s.recv(512)
    code, count = answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
    address = answer[-16:] if kind == 28 else answer[-4:]
    family = socket.AF_INET6 if kind == 28 else socket.AF_INET
    return socket.inet_ntop(family, address) if count else str(-code)
for word in sys.argv[1:]:
    name, _, how = word.partition("/")
    print(ask(name, 28 if how == "aaaa" else 1, how == "tcp"))
"""
HERE = "/proc/self/ns/net"
NEAR, NEAR6 = "203.0.113.1", "2001:db8::1"  # this host, as seen from outside
FAR, FAR6 = "203.0.113.10", "2001:db8::10"


class House:
    """Networks on the real kernel."""

    def __init__(self, state: SqliteState, passage: Passage | None = None) -> None:
        self.events: list[Event] = []
        self.records = Records(state)
        self.driver = BridgeDriver()
        self.firewall = Firewall("skiff-test", passage)
        drivers: dict[str, NetworkDriver] = {
            "bridge": self.driver,
            "macvlan": SubLinkDriver("macvlan"),
            "ipvlan": SubLinkDriver("ipvlan"),
        }
        self.guard = Guard(self.records, state, "skiff-test-egress")
        self.sandboxes = Sandboxes(
            self.records, drivers, self.firewall, self.guard, lambda: "nameserver 127.0.0.53\n"
        )
        self.netlink = NetlinkSocket()
        self.networks = Networks(
            self.records,
            self.sandboxes,
            drivers,
            pools=(*DEFAULT_POOLS, unique_local("test")),
            routes=lambda: links.destinations(self.netlink),
            publish=self.events.append,
            now=time.time_ns,
            default_bridge="skifftest0",
        )
        self.networks.restore()

    def gateway(self, network: str) -> str:
        return self.networks.find(network).ranges[0].gateway

    def gateway6(self, network: str) -> str:
        return next(s.gateway for s in self.networks.find(network).ranges if ":" in s.gateway)

    async def open(
        self,
        name: str,
        *networks: str,
        port: str = "",
        protocol: str = "tcp",
        host: str = "",
        egress: str = "",
        **settings: object,
    ) -> Sandbox:
        endpoint = EndpointSettings(**settings)  # type: ignore[arg-type]
        owner = Owner(
            id=(name.encode().hex() * 64)[:64],
            name=name,
            settings=dict.fromkeys(networks, endpoint),
            ports={f"80/{protocol}": (PortBinding(host_ip=host, host_port=port),)} if port else {},
            egress=egress,
        )
        self.networks.join(owner)
        return await self.sandboxes.open(owner)

    def address(self, sandbox: Sandbox, version: int = 4) -> str:
        for endpoint in self.records.of_owner(sandbox.owner.id):
            for address in endpoint.addresses():
                if address.version == version:
                    return str(address)
        raise AssertionError("no address")


@asynccontextmanager
async def serving(sandbox: Sandbox, program: str = SERVE) -> AsyncIterator[None]:
    """A server in the sandbox that says `ready` once it listens."""
    process = python_in(sandbox.namespace.path, program)
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    try:
        yield
    finally:
        process.kill()
        process.communicate()


async def ask(sandbox: Sandbox | None, address: str, port: int) -> str:
    """The address by which the server knows us, or `no`."""
    where = sandbox.namespace.path if sandbox else HERE
    return await output_in(where, ASK, address, str(port))


@asynccontextmanager
async def outside() -> AsyncIterator[str]:
    """The path of a network beyond this host, whose way to everything is through it."""
    network = Network()
    for words in (
        ("link", "add", "wide0", "type", "veth", "peer", "name", "wide", "netns", network.path.split("/")[2]),
        ("addr", "add", f"{NEAR}/24", "dev", "wide0"),
        ("addr", "add", f"{NEAR6}/64", "dev", "wide0", "nodad"),
        ("link", "set", "wide0", "up"),
    ):
        subprocess.run(["ip", *words], check=True)
    for words in (
        ("addr", "add", f"{FAR}/24", "dev", "wide"),
        ("addr", "add", f"{FAR6}/64", "dev", "wide", "nodad"),
        ("link", "set", "wide", "up"),
        ("route", "add", "default", "via", NEAR),
        ("-6", "route", "add", "default", "via", NEAR6),
    ):
        subprocess.run([*network.enter, "ip", *words], check=True)
    try:
        yield network.path
    finally:
        network.close()
