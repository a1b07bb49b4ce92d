"""Network links, addresses and routes: rtnetlink messages (pure) and what the kernel has of them.

Each function makes a Message for NetlinkSocket.request, so that several go to the kernel in one datagram.
rtnetlink(7), <linux/if_link.h>, <linux/rtnetlink.h>.
"""

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final, NamedTuple

from skiff.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    text,
    u32,
)

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26

AF_BRIDGE: Final = 7
IFF_UP: Final = 0x1
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_PROTINFO: Final = 12
IFLA_LINKINFO: Final = 18
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
RTEXT_FILTER_SKIP_STATS: Final = 1 << 3
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
VETH_INFO_PEER: Final = 1
IFLA_MACVLAN_MODE: Final = 1
IFLA_IPVLAN_MODE: Final = 1
IFLA_VLAN_ID: Final = 1
IFLA_BRPORT_MODE: Final = 4
IFLA_BRPORT_ISOLATED: Final = 33
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_BROADCAST: Final = 4
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x02
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_TABLE: Final = 15
RT_TABLE_MAIN: Final = 254

MACVLAN_MODES: Final = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES: Final = {"l2": 0, "l3": 1, "l3s": 2}

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

_IFINFO = struct.Struct("=BxHiII")
_CREATE: Final = NLM_F_CREATE | NLM_F_EXCL


class Link(NamedTuple):
    """A link as the kernel lists it. master: the bridge's number, 0 for none. kind: `veth`, `bridge`, …"""

    number: int
    name: str
    flags: int
    mac: str
    mtu: int
    master: int
    kind: str


def mac_bytes(mac: str) -> bytes:
    """`02:42:ac:11:00:02` as six bytes; ValueError otherwise."""
    raw = bytes.fromhex(mac.replace(":", "").replace("-", ""))
    if len(raw) != 6:
        raise ValueError(f"invalid MAC address {mac!r}")
    return raw


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(0, 0, index, flags, change)


def _info(kind: str, *data: bytes) -> bytes:
    parts = [text(IFLA_INFO_KIND, kind)]
    if data:
        parts.append(nested(IFLA_INFO_DATA, *data))
    return nested(IFLA_LINKINFO, *parts)


def veth(
    name: str,
    *,
    master: int,
    peer: str,
    peer_netns: int,
    peer_mac: str = "",
    peer_number: int = 0,
    mtu: int = 0,
) -> Message:
    """A pair: one end up in this namespace on a bridge, the other named in the namespace of that descriptor.

    mtu 0 leaves the kernel's default. peer_number 0 lets the kernel choose.
    """
    other = [text(IFLA_IFNAME, peer), u32(IFLA_NET_NS_FD, peer_netns)]
    here = [text(IFLA_IFNAME, name)]
    if peer_mac:
        other.append(attribute(IFLA_ADDRESS, mac_bytes(peer_mac)))
    if mtu:
        other.append(u32(IFLA_MTU, mtu))
        here.append(u32(IFLA_MTU, mtu))
    if master:
        here.append(u32(IFLA_MASTER, master))
    info = _info("veth", nested(VETH_INFO_PEER, _link(peer_number), *other))
    return Message(RTM_NEWLINK, _CREATE, b"".join([_link(0, IFF_UP, IFF_UP), *here, info]))


def bridge(name: str, *, mac: str = "", mtu: int = 0) -> Message:
    """A bridge, up."""
    parts = [_link(0, IFF_UP, IFF_UP), text(IFLA_IFNAME, name)]
    if mac:
        parts.append(attribute(IFLA_ADDRESS, mac_bytes(mac)))
    if mtu:
        parts.append(u32(IFLA_MTU, mtu))
    return Message(RTM_NEWLINK, _CREATE, b"".join([*parts, _info("bridge")]))


def sub_link(name: str, kind: str, *, parent: int, netns: int = 0, mac: str = "", mode: int = 0) -> Message:
    """A macvlan or ipvlan on a parent link, made in the namespace of that descriptor (0: here)."""
    parts = [_link(), text(IFLA_IFNAME, name), u32(IFLA_LINK, parent)]
    if netns:
        parts.append(u32(IFLA_NET_NS_FD, netns))
    if mac:
        parts.append(attribute(IFLA_ADDRESS, mac_bytes(mac)))
    if kind == "ipvlan":
        data = attribute(IFLA_IPVLAN_MODE, struct.pack("=H", mode))
    else:
        data = u32(IFLA_MACVLAN_MODE, mode)
    return Message(RTM_NEWLINK, _CREATE, b"".join([*parts, _info(kind, data)]))


def vlan(name: str, *, parent: int, tag: int) -> Message:
    """An 802.1q sub-interface, up. tag: 1–4094."""
    data = attribute(IFLA_VLAN_ID, struct.pack("=H", tag))
    parts = [_link(0, IFF_UP, IFF_UP), text(IFLA_IFNAME, name), u32(IFLA_LINK, parent), _info("vlan", data)]
    return Message(RTM_NEWLINK, _CREATE, b"".join(parts))


def dummy(name: str) -> Message:
    """A link that leads nowhere, up: the parent of a macvlan network without one."""
    return Message(RTM_NEWLINK, _CREATE, _link(0, IFF_UP, IFF_UP) + text(IFLA_IFNAME, name) + _info("dummy"))


def up(index: int) -> Message:
    return Message(RTM_NEWLINK, 0, _link(index, IFF_UP, IFF_UP))


def bridge_port(index: int, *, isolated: bool, hairpin: bool) -> Message:
    """A bridge's port: isolated speaks to no other isolated one; hairpin may answer where a frame came from.

    <linux/if_link.h>, IFLA_BRPORT_ISOLATED, IFLA_BRPORT_MODE.
    """
    parts = []
    if isolated:
        parts.append(attribute(IFLA_BRPORT_ISOLATED, b"\1"))
    if hairpin:
        parts.append(attribute(IFLA_BRPORT_MODE, b"\1"))
    body = _IFINFO.pack(AF_BRIDGE, 0, index, 0, 0)
    return Message(RTM_SETLINK, 0, body + nested(IFLA_PROTINFO, *parts))


def renamed(index: int, name: str) -> Message:
    """The link must be down."""
    return Message(RTM_NEWLINK, 0, _link(index) + text(IFLA_IFNAME, name))


def deleted(index: int) -> Message:
    return Message(RTM_DELLINK, 0, _link(index))


def address(index: int, interface: Interface) -> Message:
    """Put an address with its prefix length on a link. IPv6: no duplicate detection."""
    raw = interface.ip.packed
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    parts = [
        struct.pack("=BBBBi", family, interface.network.prefixlen, 0, 0, index),
        attribute(IFA_LOCAL, raw),
        attribute(IFA_ADDRESS, raw),
    ]
    if interface.version == 4 and interface.network.prefixlen < 31:
        parts.append(attribute(IFA_BROADCAST, interface.network.broadcast_address.packed))
    if interface.version == 6:
        parts.append(u32(IFA_FLAGS, IFA_F_NODAD))
    return Message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, b"".join(parts))


def route(destination: Network | None, *, gateway: Address | None = None, device: int = 0) -> Message:
    """A route in the main table, in place of one that is there; destination None is the default route, of the
    gateway's family.
    """
    known = destination or gateway
    family = socket.AF_INET6 if known is not None and known.version == 6 else socket.AF_INET
    length = destination.prefixlen if destination else 0
    scope = 0 if gateway else 253
    body = [struct.pack("=BBBBBBBBI", family, length, 0, 0, RT_TABLE_MAIN, 3, scope, 1, 0)]
    if destination:
        body.append(attribute(RTA_DST, destination.network_address.packed))
    if gateway:
        body.append(attribute(RTA_GATEWAY, gateway.packed))
    if device:
        body.append(u32(RTA_OIF, device))
    return Message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, b"".join(body))


def links(netlink: NetlinkSocket) -> list[Link]:
    """All links of the socket's namespace."""
    return [
        _parsed(body) for kind, body in netlink.dump(Message(RTM_GETLINK, 0, _link())) if kind == RTM_NEWLINK
    ]


def find(netlink: NetlinkSocket, name: str) -> Link | None:
    body = _asked(netlink, name)
    return None if body is None else _parsed(body)


def number(netlink: NetlinkSocket, name: str) -> int:
    """A link's number, 0 when there is no such link: what every start asks for, without reading the rest."""
    body = _asked(netlink, name)
    return 0 if body is None else int(_IFINFO.unpack_from(body)[2])


def _asked(netlink: NetlinkSocket, name: str) -> bytes | None:
    asked = _link() + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) + text(IFLA_IFNAME, name)
    try:
        return netlink.get(Message(RTM_GETLINK, 0, asked))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def _parsed(body: bytes) -> Link:
    _family, _type, index, flags, _change = _IFINFO.unpack_from(body)
    name = mac = kind = ""
    mtu = master = 0
    for key, value in attributes(body, 16):
        if key == IFLA_IFNAME:
            name = value.rstrip(b"\0").decode()
        elif key == IFLA_ADDRESS:
            mac = value.hex(":")
        elif key == IFLA_MTU:
            (mtu,) = struct.unpack("=I", value)
        elif key == IFLA_MASTER:
            (master,) = struct.unpack("=I", value)
        elif key == IFLA_LINKINFO:
            kind = next((v.rstrip(b"\0").decode() for k, v in attributes(value) if k == IFLA_INFO_KIND), "")
    return Link(index, name, flags, mac, mtu, master, kind)


def addresses(netlink: NetlinkSocket) -> list[tuple[int, Interface]]:
    """(link index, address with prefix) of the socket's namespace."""
    found: list[tuple[int, Interface]] = []
    for kind, body in netlink.dump(Message(RTM_GETADDR, 0, struct.pack("=BBBBi", 0, 0, 0, 0, 0))):
        if kind != RTM_NEWADDR:
            continue
        _family, length, _flags, _scope, index = struct.unpack_from("=BBBBi", body)
        values = dict(attributes(body, 8))
        raw = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
        if raw is not None:
            ip = IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)
            found.append((index, _interface(ip, length)))
    return found


def _interface(ip: Address, length: int) -> Interface:
    return IPv4Interface((ip, length)) if isinstance(ip, IPv4Address) else IPv6Interface((ip, length))


def destinations(netlink: NetlinkSocket) -> list[Network]:
    """The destinations of the routes in the main table, default routes left out."""
    found: list[Network] = []
    for kind, body in netlink.dump(
        Message(RTM_GETROUTE, 0, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0))
    ):
        if kind != RTM_NEWROUTE:
            continue
        _family, length, _source, _tos, table = struct.unpack_from("=BBBBB", body)
        values = dict(attributes(body, 12))
        if RTA_TABLE in values:
            (table,) = struct.unpack("=I", values[RTA_TABLE])
        raw = values.get(RTA_DST)
        if raw is None or length == 0 or table != RT_TABLE_MAIN:
            continue
        found.append(IPv4Network((raw, length)) if len(raw) == 4 else IPv6Network((raw, length)))
    return found


def raise_sysctl(name: str) -> None:
    """Set /proc/sys/net/<name> of the thread's network namespace to 1, unless it is.

    ip-sysctl.rst: switching forwarding on changes other settings too, so it is not done twice.
    """
    with open(f"/proc/sys/net/{name}", "r+b", buffering=0) as file:
        if file.read().strip() == b"0":
            file.seek(0)
            file.write(b"1")
