"""Keeps the kernel at the ruleset: one table of our own, changed in one transaction, touching nothing else.

It remembers what it has applied and sends the difference; at boot it replaces the table whole.
"""

import asyncio
import logging

from skiff.engine.networks.passage import Passage
from skiff.engine.networks.ruleset import CHAINS, SETS, Ruleset, ruleset
from skiff.linux.netlink import Message
from skiff.linux.nftables import (
    Nftables,
    add_elements,
    delete_elements,
    delete_table,
    name_of,
    new_chain,
    new_rule,
    new_set,
    new_table,
)

log = logging.getLogger(__name__)
EMPTY = ruleset((), ())
WALLS = {"bridges", "internal", "within", "masq4", "masq6", "nets4"}  # sets that only keep networks apart


class Firewall:
    """table: the name of ours, distinct for each engine in one network namespace.

    passage: the way through a FORWARD chain of the host's that drops; None leaves it the last word.
    linger: seconds for which a table that lets nobody in stays when the last container has gone: those who
    run one after the other do not pay for a new one each time.
    """

    def __init__(self, table: str, passage: Passage | None = None, *, linger: float = 0) -> None:
        self.table = table
        self._linger = linger
        self._leaving: asyncio.TimerHandle | None = None
        self._passage = passage
        self._nftables: Nftables | None = None
        self._applied: Ruleset | None = None  # None: what the kernel holds is unknown

    def apply(self, wanted: Ruleset) -> None:
        """Make the kernel hold exactly this; with no bridge left the table goes. OSError if it refuses."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if wanted == self._applied:
            return
        if wanted == EMPTY and self._linger and self._applied is not None and _only_walls(self._applied):
            self._leaving = asyncio.get_running_loop().call_later(self._linger, self._leave)
            return
        self._apply(wanted)

    def _leave(self) -> None:
        self._leaving = None
        try:
            self._apply(EMPTY)
        except OSError as error:
            log.warning("the firewall stays: %s", error)

    def _apply(self, wanted: Ruleset) -> None:
        try:
            if wanted == EMPTY:
                self._remove()
            elif self._applied is None or self._applied == EMPTY:
                self._open().commit(whole(self.table, wanted))
            else:
                self._open().commit(difference(self.table, self._applied, wanted))
            if self._passage is not None:
                bridges = [name_of(element.key) for element in wanted.members["bridges"]]
                self._passage.apply(self._open(), bridges)
        except OSError:
            self._applied = None
            raise
        self._applied = wanted

    def close(self) -> None:
        """Let go of the socket; the rules of those that run stay."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leave()
        if self._nftables is not None:
            self._nftables.close()
            self._nftables = None

    def _remove(self) -> None:
        nftables = self._open()
        if nftables.has_table(self.table):
            nftables.commit([delete_table(self.table)])

    def _open(self) -> Nftables:
        if self._nftables is None:
            self._nftables = Nftables()
        return self._nftables


def _only_walls(applied: Ruleset) -> bool:
    return not any(members for name, members in applied.members.items() if name not in WALLS)


def whole(table: str, wanted: Ruleset) -> list[Message]:
    """Replace the table, whatever it holds."""
    messages = [new_table(table), delete_table(table), new_table(table)]
    messages += [new_set(table, described, number) for number, described in enumerate(SETS, 1)]
    messages += [new_chain(table, chain) for chain in CHAINS]
    messages += [new_rule(table, chain.name, rule) for chain in CHAINS for rule in chain.rules]
    for name, members in wanted.members.items():
        messages += add_elements(table, name, sorted(members))
    return messages


def difference(table: str, old: Ruleset, new: Ruleset) -> list[Message]:
    """Take away what is no longer wanted, then add what is new."""
    messages: list[Message] = []
    for name, members in new.members.items():
        messages += delete_elements(table, name, sorted(old.members[name] - members))
    for name, members in new.members.items():
        messages += add_elements(table, name, sorted(members - old.members[name]))
    return messages
