import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from skiff.engine.networks import firewall
from skiff.engine.networks.firewall import EMPTY, Firewall
from skiff.engine.networks.ruleset import Published, Wall, ruleset

WALLS = ruleset([Wall("br0", (ip_network("10.0.0.0/24"),))], ())
OPEN = ruleset(
    [Wall("br0", (ip_network("10.0.0.0/24"),))],
    [Published("tcp", ip_address("0.0.0.0"), 80, ip_address("10.0.0.2"), 80)],
)


class Kernel:
    """In place of the socket: the number of transactions, and whether there is a table."""

    def __init__(self) -> None:
        self.commits = 0
        self.there = False

    def commit(self, _messages: Any) -> None:
        self.commits += 1
        self.there = True

    def has_table(self, _name: str, *, family: int) -> bool:
        return self.there

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(firewall, "Nftables", lambda: kernel)
    return kernel


async def test_one_container_after_the_other_makes_one_table(kernel: Kernel) -> None:
    wall = Firewall("t", linger=60)
    for _ in range(5):
        wall.apply(WALLS)
        wall.apply(EMPTY)
    assert kernel.commits == 1
    wall.close()
    assert kernel.commits == 2


async def test_the_table_goes_after_a_moment(kernel: Kernel) -> None:
    wall = Firewall("t", linger=0.001)
    wall.apply(WALLS)
    wall.apply(EMPTY)
    async with asyncio.timeout(5):
        while kernel.commits < 2:
            await asyncio.sleep(0)


async def test_a_published_port_goes_at_once(kernel: Kernel) -> None:
    wall = Firewall("t", linger=60)
    wall.apply(OPEN)
    wall.apply(EMPTY)
    assert kernel.commits == 2


def test_without_a_loop_nothing_lingers(kernel: Kernel) -> None:
    wall = Firewall("t")
    wall.apply(WALLS)
    wall.apply(EMPTY)
    assert kernel.commits == 2
