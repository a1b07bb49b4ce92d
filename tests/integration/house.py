"""Networks on the real kernel, in a namespace of the test's own: no engine, no process but the test's."""

import asyncio
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
from tests.integration.own_network import output_in, python_in

SERVE = """
import socket
server = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client, address = server.accept()
    client.sendall(address[0].removeprefix("::ffff:").encode())
    client.close()
"""
ASK = """
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.7).recv(100).decode())
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
    return socket.inet_ntoa(answer[-4:]) if count else str(-code)
for word in sys.argv[1:]:
    name, _, how = word.partition("/")
    print(ask(name, tcp=how == "tcp"))
"""
HERE = "/proc/self/ns/net"


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

    async def open(
        self, name: str, *networks: str, port: str = "", egress: str = "", **settings: object
    ) -> Sandbox:
        endpoint = EndpointSettings(**settings)  # type: ignore[arg-type]
        owner = Owner(
            id=(name.encode().hex() * 64)[:64],
            name=name,
            settings=dict.fromkeys(networks, endpoint),
            ports={"80/tcp": (PortBinding(host_port=port),)} if port else {},
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
async def serving(sandbox: Sandbox) -> AsyncIterator[None]:
    process = python_in(sandbox.namespace.path, SERVE)
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
