import pytest

from skiff.docker.network import PortBinding, PortMap
from skiff.engine.containers.ports import added, removed
from skiff.errors import Conflict, NotFound

A = PortBinding(host_port="8080")
B = PortBinding(host_port="8081")
ANY = PortBinding()
HAVE: PortMap = {"80/tcp": (A, B), "443/tcp": None}


def test_ports_are_added_to_those_there_are() -> None:
    assert added(HAVE, {"53/udp": (ANY,)}) == {**HAVE, "53/udp": (ANY,)}
    assert added(HAVE, {"443/tcp": None}) == {**HAVE, "443/tcp": (ANY,)}
    with pytest.raises(Conflict, match="published at 8080 already"):
        added(HAVE, {"80/tcp": (A,)})


def test_ports_are_removed_one_by_one_or_all() -> None:
    assert removed(HAVE, {"80/tcp": (A,)}) == {"80/tcp": (B,), "443/tcp": None}
    assert removed(HAVE, {"80/tcp": (ANY,)}) == {"443/tcp": None}
    assert removed(HAVE, {"80/tcp": None}) == {"443/tcp": None}
    wrong_ones: tuple[PortMap, ...] = (
        {"22/tcp": (A,)},
        {"443/tcp": (A,)},
        {"80/tcp": (PortBinding(host_port="1"),)},
    )
    for wrong in wrong_ones:
        with pytest.raises(NotFound):
            removed(HAVE, wrong)
