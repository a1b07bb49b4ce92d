import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from skiff.docker.network import PortBinding
from skiff.engine.networks.ports import PortAllocator, Wish, container_port, host_ports, wishes
from skiff.errors import InvalidParameter, Unavailable

LOOPBACK = IPv4Address("127.0.0.1")
ANY = IPv4Address(0)


@pytest.fixture
def ports() -> Iterator[PortAllocator]:
    allocator = PortAllocator()
    yield allocator
    allocator.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def fixed(number: int, host: IPv4Address = LOOPBACK, protocol: str = "tcp") -> Wish:
    return Wish(protocol, 80, host, range(number, number + 1))


def test_container_ports() -> None:
    assert container_port("80/tcp") == (80, "tcp")
    assert container_port("53/UDP") == (53, "udp")
    assert container_port("80") == (80, "tcp")
    for wrong in ("x/tcp", "80/icmp", "70000/tcp", "-1/tcp"):
        with pytest.raises(InvalidParameter):
            container_port(wrong)


def test_host_ports() -> None:
    assert list(host_ports("8080")) == [8080]
    assert list(host_ports("8000-8002")) == [8000, 8001, 8002]
    assert list(host_ports("")) == list(host_ports("0")) == []
    with pytest.raises(InvalidParameter):
        host_ports("9-8")


def test_wishes_follow_bindings_and_publish_all() -> None:
    bindings = {"80/tcp": (PortBinding(host_port="8080"),), "53/udp": (PortBinding(host_ip="127.0.0.1"),)}
    found = wishes(bindings, ["80/tcp", "443/tcp"], ANY, ipv6=True)
    assert found == [
        Wish("tcp", 80, ANY, range(8080, 8081)),
        Wish("tcp", 80, IPv6Address(0), range(8080, 8081)),
        Wish("udp", 53, LOOPBACK, range(0)),
        Wish("tcp", 443, ANY, range(0)),
        Wish("tcp", 443, IPv6Address(0), range(0)),
    ]


def test_a_port_is_ours_once(ports: PortAllocator) -> None:
    number = free_port()
    claims = ports.claim([fixed(number)])
    with pytest.raises(Unavailable, match=f"Bind for 127.0.0.1:{number} failed: port is already allocated"):
        ports.claim([fixed(number)])
    with pytest.raises(Unavailable, match=f"Bind for 127.0.0.1:{number} failed"):
        ports.claim([fixed(number, ANY)])
    ports.claim([fixed(number, protocol="udp")])
    ports.release(claims)
    ports.claim([fixed(number)])


def test_a_port_of_another_program_is_refused(ports: PortAllocator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        with pytest.raises(
            Unavailable,
            match=f"failed to bind host port for 127.0.0.1:{number}:172.18.0.2:80/tcp: address already",
        ):
            ports.claim([fixed(number)], {4: IPv4Address("172.18.0.2")})


def test_a_claim_is_all_or_nothing(ports: PortAllocator) -> None:
    first, second = free_port(), free_port()
    with socket.create_server(("127.0.0.1", second)), pytest.raises(Unavailable):
        ports.claim([fixed(first), fixed(second)])
    ports.claim([fixed(first)])


def test_a_range_gives_its_first_free_port(ports: PortAllocator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        (claim,) = ports.claim([Wish("tcp", 80, LOOPBACK, range(number, number + 50))])
        assert number < claim.host_port < number + 50


def test_dynamic_ports_are_distinct(ports: PortAllocator) -> None:
    claims = ports.claim([Wish("tcp", n, LOOPBACK, range(0)) for n in (80, 81, 82)])
    assert len({c.host_port for c in claims}) == 3


def test_other_programs_cannot_take_a_claimed_port(ports: PortAllocator) -> None:
    (claim,) = ports.claim([Wish("tcp", 80, LOOPBACK, range(0))])
    with pytest.raises(OSError):
        socket.create_server(("127.0.0.1", claim.host_port))
