"""Keeps the kernel at the ruleset: a table of our own, changed in one transaction, touching nothing else.

It remembers what it has applied and sends the difference; at boot it replaces the table whole.
"""

import asyncio
import logging
from collections.abc import Sequence

from skiff.engine.networks.passage import Passage
from skiff.engine.networks.ruleset import LAYOUT, Layout, Ruleset, ruleset
from skiff.linux.netlink import Message
from skiff.linux.nftables import (
    Nftables,
    add_elements,
    delete_elements,
    delete_rules,
    delete_table,
    empty_set,
    name_of,
    new_chain,
    new_rule,
    new_set,
    new_table,
)

log = logging.getLogger(__name__)
EMPTY = ruleset((), ())


class Firewall:
    """table: the name of ours, distinct for each engine in one network namespace.

    layouts: what it is made of; the second where the kernel lacks what the first one needs.
    passage: the way through a FORWARD chain of the host's that drops; None leaves it the last word.
    linger: seconds for which a table that lets nobody in stays when the last container has gone: those who
    run one after the other do not pay for a new one each time.
    """

    def __init__(
        self,
        table: str,
        passage: Passage | None = None,
        *,
        layouts: Sequence[Layout] = (LAYOUT,),
        linger: float = 0,
    ) -> None:
        self.table = table
        self.layout = layouts[0]
        self._layouts = layouts
        self._linger = linger
        self._leaving: asyncio.TimerHandle | None = None
        self._nothing = EMPTY  # what is applied then
        self._passage = passage
        self._nftables: Nftables | None = None
        self._applied: Ruleset | None = None  # None: what the kernel holds is unknown

    def apply(self, wanted: Ruleset) -> None:
        """Make the kernel hold exactly this; with nothing in it the table goes. OSError if it refuses."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if wanted == self._applied:
            return
        if wanted.is_empty and self._linger and self._applied is not None and self._lets_nobody_in():
            self._nothing = wanted
            self._leaving = asyncio.get_running_loop().call_later(self._linger, self._leave)
            return
        self._apply(wanted)

    def _lets_nobody_in(self) -> bool:
        applied = self._applied.members if self._applied is not None else {}
        return not any(members for name, members in applied.items() if name not in self.layout.walls)

    def _leave(self) -> None:
        self._leaving = None
        try:
            self._apply(self._nothing)
        except OSError as error:
            log.warning("the firewall stays: %s", error)

    def _apply(self, wanted: Ruleset) -> None:
        try:
            if wanted.is_empty:
                self._remove()
            elif self._applied is None or self._applied.is_empty:
                self._replace(wanted)
            else:
                self.nftables.commit(difference(self.table, self._applied, wanted, self.layout))
            if self._passage is not None:
                bridges = [name_of(element.key) for element in wanted.members["bridges"]]
                self._passage.apply(self.nftables, bridges)
        except OSError:
            self._applied = None
            raise
        self._applied = wanted

    def _replace(self, wanted: Ruleset) -> None:
        """What a table of the same making has learned is kept; one of an earlier engine's goes whole."""
        ways = [(layout, keep) for keep in (True, False) for layout in self._layouts]
        for number, (layout, keep) in enumerate(ways, 1):
            try:
                self.nftables.commit(whole(self.table, wanted, layout, keep=keep and bool(layout.learned)))
            except OSError:
                if number == len(ways):
                    raise
            else:
                self.layout = layout
                return

    def close(self) -> None:
        """Let go of the socket; the rules of those that run stay."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leave()
        if self._nftables is not None:
            self._nftables.close()
            self._nftables = None

    def _remove(self) -> None:
        family = self.layout.family
        if self.nftables.has_table(self.table, family=family):
            self.nftables.commit([delete_table(self.table, family=family)])

    @property
    def nftables(self) -> Nftables:
        if self._nftables is None:
            self._nftables = Nftables()
        return self._nftables


def whole(table: str, wanted: Ruleset, layout: Layout = LAYOUT, *, keep: bool = False) -> list[Message]:
    """Replace the table, whatever it holds; keep: all but what it has learned."""
    family = layout.family
    messages = [new_table(table, family=family)]
    if not keep:
        messages += [delete_table(table, family=family), new_table(table, family=family)]
    sets = (*layout.sets, *layout.learned)
    messages += [new_set(table, described, number, family=family) for number, described in enumerate(sets, 1)]
    messages += [new_chain(table, chain, family=family) for chain in layout.chains]
    if keep:
        messages += [empty_set(table, described.name, family=family) for described in layout.sets]
        messages += [delete_rules(table, chain.name, family=family) for chain in layout.chains]
    messages += [
        new_rule(table, chain.name, rule, family=family) for chain in layout.chains for rule in chain.rules
    ]
    for name, members in wanted.members.items():
        messages += add_elements(table, name, sorted(members), family=family)
    return messages


def difference(table: str, old: Ruleset, new: Ruleset, layout: Layout = LAYOUT) -> list[Message]:
    """Take away what is no longer wanted, then add what is new."""
    messages: list[Message] = []
    for name, members in new.members.items():
        messages += delete_elements(table, name, sorted(old.members[name] - members), family=layout.family)
    for name, members in new.members.items():
        messages += add_elements(table, name, sorted(members - old.members[name]), family=layout.family)
    return messages
