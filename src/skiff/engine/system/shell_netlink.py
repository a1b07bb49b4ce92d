"""Netlink messages as the words of ip(8) and nft(8). Pure.

A message is [type, flags, body in hexadecimal], as linux/watching.py takes it down.
"""

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

from skiff.engine.networks.ruleset import PROTOCOLS, SETS
from skiff.linux import links, nftables
from skiff.linux.netlink import attributes

_INET6: Final = 10
_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}
_WIDTHS: Final = {"ifname": 16, "ipv4_addr": 4, "ipv6_addr": 16, "inet_proto": 1, "inet_service": 2}
_FIELDS: Final = {described.name: described for described in SETS}
_SUBSYSTEM: Final = 10 << 8
# message of nf_tables → (words of nft, attribute with the name of what it is about)
_NFT: Final = {
    0: "add table",
    2: "delete table",
    3: "add chain",
    5: "delete chain",
    6: "add rule",
    8: "delete rule",
    9: "add set",
    11: "delete set",
    12: "add element",
    14: "delete element",
}
_NFT_TITLES: Final = ("table", "chain", "rule", "set", "element")


def _count(many: int, what: str) -> str:
    return f"{many} {what}{'' if many == 1 else 's'}"


def route(messages: Iterable[Any], names: dict[int, str]) -> tuple[str, str]:
    """(title, `ip …; ip …`) of rtnetlink messages that were sent together. names: of links, by number."""
    commands = [_ip(kind, bytes.fromhex(body), names) for kind, _, body in messages]
    shown = [command for command in commands if command]
    many = _count(len(commands), "message")
    return f"netlink: {shown[0].removeprefix('ip ') if len(shown) == 1 else many}", "; ".join(shown)


def _device(index: int, names: dict[int, str]) -> str:
    return names.get(index, f"if{index}")


def _ip(kind: int, body: bytes, names: dict[int, str]) -> str:
    if kind in (links.RTM_NEWLINK, links.RTM_SETLINK, links.RTM_DELLINK):
        family, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
        found = dict(attributes(body, 16))
        if kind == links.RTM_DELLINK:
            return f"ip link del dev {_device(index, names)}"
        if kind == links.RTM_SETLINK and family == links.AF_BRIDGE:
            return f"bridge link set dev {_device(index, names)} …"
        return _link(index, flags, found, names)
    if kind == links.RTM_NEWADDR:
        _, length, _, _, index = struct.unpack_from("=BBBBi", body)
        found = dict(attributes(body, 8))
        return f"ip addr add {ip_address(found[links.IFA_LOCAL])}/{length} dev {_device(index, names)}"
    if kind == links.RTM_NEWROUTE:
        _, length = struct.unpack_from("=BB", body)
        found = dict(attributes(body, 12))
        to = f"{ip_address(found[links.RTA_DST])}/{length}" if links.RTA_DST in found else "default"
        via = f" via {ip_address(found[links.RTA_GATEWAY])}" if links.RTA_GATEWAY in found else ""
        out = f" dev {_device(_number(found[links.RTA_OIF]), names)}" if links.RTA_OIF in found else ""
        return f"ip route add {to}{via}{out}"
    return ""


def _link(index: int, flags: int, found: dict[int, bytes], names: dict[int, str]) -> str:
    name = _text(found.get(links.IFLA_IFNAME, b""))
    if links.IFLA_LINKINFO not in found:
        rename = f" name {name}" if name else ""
        return f"ip link set dev {_device(index, names)}{rename}{' up' if flags & links.IFF_UP else ''}"
    info = dict(attributes(found[links.IFLA_LINKINFO]))
    kind = _text(info.get(links.IFLA_INFO_KIND, b""))
    words = f"ip link add {name} type {kind}"
    if kind == "veth":
        data = dict(attributes(info.get(links.IFLA_INFO_DATA, b"")))
        peer = dict(attributes(data.get(links.VETH_INFO_PEER, b""), 16))
        words += f" peer name {_text(peer.get(links.IFLA_IFNAME, b''))} netns PID"
        if links.IFLA_ADDRESS in peer:
            words += f" address {peer[links.IFLA_ADDRESS].hex(':')}"
    if links.IFLA_MASTER in found:
        words += f" && ip link set {name} master {_device(_number(found[links.IFLA_MASTER]), names)}"
    if flags & links.IFF_UP:
        words += f" && ip link set {name} up"
    return words


def nft(messages: Iterable[Any]) -> tuple[str, str]:
    """(title, `nft …; …`) of one transaction."""
    counts: dict[str, int] = {}
    commands = []
    for kind, _, body in messages:
        if kind & ~0xFF != _SUBSYSTEM or kind & 0xFF not in _NFT:
            continue
        words = _NFT[kind & 0xFF]
        what = words.rpartition(" ")[2]
        found = dict(attributes(bytes.fromhex(body), 4))
        many, text = _nft(words, found)
        counts[what] = counts.get(what, 0) + many
        commands.append(text)
    title = ", ".join(_count(counts[what], what) for what in _NFT_TITLES if what in counts)
    return f"firewall, one transaction: {title}", f"nft '{'; '.join(commands)}'" if commands else ""


def _nft(words: str, found: dict[int, bytes]) -> tuple[int, str]:
    """How many things, and the words. Attribute 1 is the table (of a chain, too), the name follows it."""
    table = f"inet {_text(found.get(1, b''))}"
    if words.endswith("table"):
        return 1, f"{words} {table}"
    if words.endswith("chain"):
        return 1, f"{words} {table} {_text(found.get(3, b''))}"
    name = _text(found.get(2, b""))
    if words.endswith("rule"):
        return 1, f"{words} {table} {name} …"
    if words.endswith("set"):
        described = _FIELDS.get(name)
        kind = "map" if described and described.data else "set"
        shown = f"{{ type {_type(described)}; }}" if described else "…"
        return 1, f"{words.replace('set', kind)} {table} {name} {shown}"
    members: list[str] = [_member(name, item) for _, item in attributes(found.get(3, b""))]
    members = [member for member in members if member]
    return len(members), f"{words} {table} {name} {{ {', '.join(members)} }}"


def _type(described: nftables.Set) -> str:
    key = " . ".join(described.key)
    return f"{key} : {' . '.join(described.data)}" if described.data else key


def _member(name: str, item: bytes) -> str:
    found = dict(attributes(item))
    if 3 in found:  # the end of an interval
        return ""
    described = _FIELDS.get(name)
    key = dict(attributes(found.get(1, b""))).get(1, b"")
    data = dict(attributes(found.get(2, b""))).get(1, b"") if 2 in found else b""
    shown = _fields(described.key if described else (), key)
    return f"{shown} : {_fields(described.data if described else (), data)}" if data else shown


def _fields(types: tuple[str, ...], data: bytes) -> str:
    shown = []
    at = 0
    for kind in types:
        width = _WIDTHS[kind]
        value = data[at : at + width]
        at += width + -width % 4
        if kind == "ifname":
            shown.append(f'"{_text(value)}"')
        elif kind == "inet_proto":
            shown.append(_NAMES.get(value[0], str(value[0])))
        elif kind == "inet_service":
            shown.append(str(int.from_bytes(value, "big")))
        else:
            shown.append(str(ip_address(value)))
    return " . ".join(shown) if shown else f"0x{data.hex()}"


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def _number(value: bytes) -> int:
    (number,) = struct.unpack("=I", value)
    return int(number)
