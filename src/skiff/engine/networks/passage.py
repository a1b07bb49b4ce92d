"""A way through the host's own FORWARD chain, when its policy is to drop: what Docker does, too.

A drop in any table is final, so a host that drops what it forwards (ufw, firewalld, another container engine)
would cut containers off. Into its chain, if it drops, we put one jump to a chain of ours, which accepts
whatever comes from or goes to our bridges; what of that may pass is decided by our own table. Taken away with
the last bridge. With the publish-policy `host` there is none, and the host's firewall has the last word.
"""

from collections.abc import Collection
from typing import Final

from skiff.linux.nftables import (
    ACCEPT,
    DROP,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    Chain,
    Nftables,
    compare,
    delete_chain,
    delete_rule,
    delete_rules,
    ifname,
    jump,
    load_meta,
    new_chain,
    new_rule,
    verdict,
)

# iptables' names: of all programs that set a policy here, nearly all do it there.
TABLE: Final = "filter"
FORWARD: Final = "FORWARD"
FAMILIES: Final = (NFPROTO_IPV4, NFPROTO_IPV6)


class Passage:
    """chain: the name of ours, distinct for each engine in one network namespace."""

    def __init__(self, chain: str) -> None:
        self._chain = chain
        self._applied: frozenset[str] | None = None

    def apply(self, nftables: Nftables, bridges: Collection[str]) -> None:
        """Let these bridges through, and no others of ours. OSError if the kernel refuses."""
        wanted = frozenset(bridges)
        if wanted == self._applied:
            return
        for family in FAMILIES:
            policy = nftables.policy(TABLE, FORWARD, family=family)
            if policy is None:
                continue
            self._remove(nftables, family)
            if wanted and policy == DROP:
                self._open(nftables, family, wanted)
        self._applied = wanted

    def _open(self, nftables: Nftables, family: int, bridges: frozenset[str]) -> None:
        messages = [new_chain(TABLE, Chain(self._chain), family=family)]
        for bridge in sorted(bridges):
            for key in ("iifname", "oifname"):
                rule = (load_meta(key), compare(ifname(bridge)), verdict(ACCEPT))
                messages.append(new_rule(TABLE, self._chain, rule, family=family))
        messages.append(new_rule(TABLE, FORWARD, (jump(self._chain),), first=True, family=family))
        nftables.commit(messages)

    def _remove(self, nftables: Nftables, family: int) -> None:
        handles = nftables.rules_with(TABLE, FORWARD, self._chain.encode(), family=family)
        if not handles:
            return
        messages = [delete_rule(TABLE, FORWARD, handle, family=family) for handle in handles]
        messages.append(delete_rules(TABLE, self._chain, family=family))
        messages.append(delete_chain(TABLE, self._chain, family=family))
        nftables.commit(messages)
