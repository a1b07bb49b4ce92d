"""Keeps egress policies: the rules of guarded links, what answers have opened, what was refused.

The rules follow the records and are there before a link is. What names have opened is the kernel's alone,
with timeouts, and outlives the engine; so does the count of refused packets, until it is read into the log.
"""

import asyncio
import errno
import logging
import time
from ipaddress import ip_address
from typing import Final

from skiff.engine.networks import egress
from skiff.engine.networks.dns import MalformedMessage, resolved
from skiff.engine.networks.egress_log import ALLOWED, REFUSED, EgressLogs, Entry
from skiff.engine.networks.egress_rules import (
    LAYOUTS,
    REFUSED_SETS,
    Refused,
    egress_ruleset,
    opening,
    refused,
)
from skiff.engine.networks.firewall import Firewall
from skiff.engine.networks.ipam import Address
from skiff.engine.networks.names import linked
from skiff.engine.networks.record import Endpoint, Records
from skiff.engine.networks.ruleset import PROTOCOLS
from skiff.engine.storage.state import StateStore
from skiff.errors import SkiffError
from skiff.linux.netlink import Message
from skiff.linux.nftables import Element, add_elements, delete_elements

log = logging.getLogger(__name__)
DRAIN_SECONDS: Final = 600.0  # the kernel forgets what it refused a day ago
MOST_OPENED: Final = 64  # by one answer: whoever gives it may mean us ill
_PROTOCOL_NAMES: Final = {number: name for name, number in PROTOCOLS.items()} | {1: "icmp", 58: "icmpv6"}


class Guard:
    """state: where the logs are. table: the name of ours; linger: as for the firewall."""

    def __init__(self, records: Records, state: StateStore, table: str, *, linger: float = 0) -> None:
        self._records = records
        self._firewall = Firewall(table, layouts=LAYOUTS, linger=linger)
        self._logs = EgressLogs(state)
        self._until: dict[tuple[str, Address, int], float] = {}  # (link, address, port) → monotonic
        self._draining: asyncio.TimerHandle | None = None

    # -- rules ------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """From the records to the kernel. SkiffError when it cannot: then nobody may be let in."""
        guarded = [e for e in self._records.policed() if egress.restricts(e.egress)]
        allowed = [p for e in guarded for p in egress.passes(e.link, egress.parse(e.egress), self._near(e))]
        try:
            self._firewall.apply(egress_ruleset([e.link for e in guarded], allowed))
        except OSError as error:
            raise SkiffError(f"the kernel cannot keep an egress policy: {error}") from error
        if guarded and self._draining is None:
            self._draining = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._drain_again)

    def _near(self, mine: Endpoint) -> list[tuple[list[str], list[Address]]]:
        """(names, addresses) of the other containers on the endpoint's network."""
        network = self._records.networks[mine.network].name
        found = []
        for other in self._records.on_network(mine.network):
            if other.is_attached and other.owner != mine.owner:
                names = [*other.names, *(f"{name}.{network}" for name in other.names)]
                names += [alias for name in other.names for alias in linked_as(mine, name)]
                found.append((names, other.addresses()))
        return found

    def close(self) -> None:
        """The engine ends; the rules stay with those that run."""
        if self._draining is not None:
            self._draining.cancel()
        self._drain()
        self._logs.save()
        self._firewall.close()

    # -- names ------------------------------------------------------------------------------------------

    def allows(self, owner: str, name: str) -> bool:
        """May the question be passed on? One that may not is logged."""
        mine = self._policies(owner)
        if all(policy.open for _, policy in mine) or any(p.open or p.ports(name) for _, p in mine):
            return True
        self._logs.add(owner, REFUSED, name, time.time_ns())
        return False

    def answered(self, owner: str, name: str, message: bytes) -> None:
        """Open the way to the addresses in an answer, before it is passed on. OSError."""
        found = [
            (link, ports) for link, p in self._policies(owner) if not p.open and (ports := p.ports(name))
        ]
        if not found:
            return
        try:
            answers = [(a, ttl) for a, ttl in resolved(message, name) if egress.is_elsewhere(a)][:MOST_OPENED]
        except MalformedMessage:
            return
        for address, ttl in answers:
            seconds = egress.seconds(ttl)
            for link, ports in found:
                for port in ports:
                    self._open(link, address, port, seconds)
            self._logs.add(owner, ALLOWED, f"{name} {address}", time.time_ns())

    def _policies(self, owner: str) -> list[tuple[str, egress.Policy]]:
        return [(e.link, egress.parse(e.egress)) for e in self._records.of_owner(owner) if e.is_attached]

    def _open(self, link: str, address: Address, port: int, seconds: int) -> None:
        """For so long; what another name has opened for longer stays."""
        key, now = (link, address, port), time.monotonic()
        if self._until.get(key, 0) >= now + seconds:
            return
        name, elements = opening(link, address, port, seconds)
        try:
            self._commit(name, elements)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            self._commit(name, elements)  # it expired while it was replaced
        if len(self._until) > 10_000:
            self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[key] = now + seconds

    def _commit(self, name: str, elements: list[Element]) -> None:
        """A member keeps its timeout when it is added again: it is taken away in between."""
        table, family = self._firewall.table, self._firewall.layout.family
        forever = [element._replace(timeout_ms=0) for element in elements]
        messages: list[Message] = add_elements(table, name, elements, family=family)
        messages += delete_elements(table, name, forever, family=family)
        messages += add_elements(table, name, elements, family=family)
        self._firewall.nftables.commit(messages)

    # -- the log ----------------------------------------------------------------------------------------

    def entries(self, owner: str) -> list[Entry]:
        """What was allowed and refused, the latest last."""
        self._drain()
        return self._logs.entries(owner)

    def leave(self, owner: str) -> None:
        """Its links are about to go: what they were refused is read for the last time."""
        if any(egress.restricts(e.egress) for e in self._records.of_owner(owner)):
            self._drain()

    def forget(self, owner: str) -> None:
        """The container is gone for good."""
        self._logs.forget(owner)

    def _drain_again(self) -> None:
        self._draining = None
        self._drain()
        if any(egress.restricts(e.egress) for e in self._records.policed()):
            self._draining = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._drain_again)

    def _drain(self) -> None:
        """Read the kernel's counts and begin them anew."""
        owners = {e.link: e.owner for e in self._records.policed() if egress.restricts(e.egress)}
        if not owners:
            return
        table, family = self._firewall.table, self._firewall.layout.family
        nftables = self._firewall.nftables
        for name in REFUSED_SETS:
            try:
                held = nftables.members(table, name, family=family)
                nftables.commit(
                    delete_elements(table, name, [Element(one.key) for one in held], family=family)
                )
            except OSError as error:
                log.warning("what was refused cannot be read: %s", error)
                return
            for one in map(refused, held):
                if one.link in owners:
                    when = time.time_ns() - int(one.seconds * 1e9)
                    self._logs.add(owners[one.link], REFUSED, shown(one), when, one.packets)


def linked_as(mine: Endpoint, target: str) -> list[str]:
    """What the endpoint's links call a container."""
    pairs = (link.partition(":") for link in mine.settings.links or ())
    return [alias for name, _, alias in pairs if alias and name == target and linked(mine, alias.lower())]


def shown(one: Refused) -> str:
    """`203.0.113.20:443/tcp`, or without the port `203.0.113.20/icmp`."""
    address = ip_address(one.address)
    protocol = _PROTOCOL_NAMES.get(one.protocol, str(one.protocol))
    if not one.port:
        return f"{address}/{protocol}"
    return f"{f'[{address}]' if address.version == 6 else address}:{one.port}/{protocol}"
