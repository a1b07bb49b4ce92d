"""A container's network namespace: made, entered for a moment, and let go.

The engine enters a namespace only between two statements, never across an await, so its own thread is where
it was whenever anything else runs. Sockets made inside stay inside. The namespace lives as long as the
container's processes or the descriptor held here; nothing has to be deleted.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from skiff.engine.networks.nameserver import ADDRESS, PORT
from skiff.linux.links import up
from skiff.linux.namespaces import CLONE_NEWNET, open_namespace, setns, unshare
from skiff.linux.netlink import Message, NetlinkSocket
from skiff.linux.nftables import (
    FIRST,
    NFPROTO_IPV4,
    Chain,
    Nftables,
    compare,
    delete_table,
    dnat,
    load_immediate,
    load_meta,
    load_payload,
    new_chain,
    new_rule,
    new_table,
)

LOOPBACK: Final = 1
_RESOLVER_TABLE: Final = "skiff-resolver"
_SO_RCVBUFFORCE: Final = 33  # socket(7); beyond the machine's rmem_max
_RECEIVE_BUFFER: Final = 2 << 20  # bytes: some 2,700 questions at once


class Namespace:
    """An open network namespace with its loopback up, and a netlink socket in it."""

    def __init__(self, descriptor: int, netlink: NetlinkSocket) -> None:
        self.descriptor = descriptor
        self.netlink = netlink

    @classmethod
    def new(cls) -> "Namespace":
        """A fresh one. The calling thread comes back to where it was."""
        home = open_namespace("/proc/thread-self/ns/net")
        try:
            unshare(CLONE_NEWNET)
            try:
                descriptor = open_namespace("/proc/thread-self/ns/net")
                netlink = NetlinkSocket()
                netlink.request(up(LOOPBACK))
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)
        return cls(descriptor, netlink)

    @classmethod
    def of_process(cls, pid: int) -> "Namespace":
        """That of a running container. OSError when it is gone."""
        descriptor = open_namespace(f"/proc/{pid}/ns/net")
        try:
            with entered(descriptor):
                return cls(descriptor, NetlinkSocket())
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def path(self) -> str:
        """Where another process of ours can open it, as long as this object is not closed."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def resolver_sockets(self, *, again: bool) -> tuple[socket.socket, socket.socket]:
        """UDP and TCP sockets on 127.0.0.11, port 53 led to them; again: in place of an earlier engine's."""
        with entered(self.descriptor):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            udp.bind((ADDRESS, 0))
            tcp.bind((ADDRESS, 0))
            tcp.listen(64)
            nftables = Nftables()
        try:
            nftables.commit(_to_resolver(udp.getsockname()[1], tcp.getsockname()[1], replace=again))
        finally:
            nftables.close()
        return udp, tcp

    def set_sysctl(self, name: str, value: str) -> None:
        """name: a path below /proc/sys/net, which is that of whoever opens it. OSError."""
        with entered(self.descriptor), open(f"/proc/sys/net/{name}", "w") as file:
            file.write(value)

    def another_netlink(self) -> NetlinkSocket:
        """For a thread of its own. The caller closes it."""
        with entered(self.descriptor):
            return NetlinkSocket()

    def close(self) -> None:
        self.netlink.close()
        os.close(self.descriptor)


def _to_resolver(udp_port: int, tcp_port: int, *, replace: bool) -> list[Message]:
    """The table that leads 127.0.0.11:53 to the resolver. Replacing one costs an RCU grace period: 15 ms."""
    chain = Chain("output", "nat", "output", -100)
    messages = [new_table(_RESOLVER_TABLE)]
    if replace:
        messages += [delete_table(_RESOLVER_TABLE), new_table(_RESOLVER_TABLE)]
    messages.append(new_chain(_RESOLVER_TABLE, chain))
    address = socket.inet_aton(ADDRESS)
    for protocol, port in ((socket.IPPROTO_UDP, udp_port), (socket.IPPROTO_TCP, tcp_port)):
        rule = (
            load_meta("nfproto"),
            compare(bytes([NFPROTO_IPV4])),
            load_payload("network", 16, 4),
            compare(address),
            load_meta("l4proto"),
            compare(bytes([protocol])),
            load_payload("transport", 2, 2),
            compare(struct.pack(">H", PORT)),
            load_immediate(address),
            load_immediate(struct.pack(">H", port), FIRST + 1),
            dnat(NFPROTO_IPV4, address=FIRST, port=FIRST + 1),
        )
        messages.append(new_rule(_RESOLVER_TABLE, chain.name, rule))
    return messages


@contextmanager
def entered(descriptor: int) -> Iterator[None]:
    """The calling thread is in that network namespace; nothing inside may await."""
    home = open_namespace("/proc/thread-self/ns/net")
    try:
        setns(descriptor, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)
