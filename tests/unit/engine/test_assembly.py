"""What the engine's settings come to, where it is put together."""

from pathlib import Path

from skiff.engine.assembly import host_resolv
from skiff.engine.settings import Settings


def test_name_servers_of_the_engine_stand_in_for_the_hosts() -> None:
    text = host_resolv(Settings(dns=("10.0.0.1", "10.0.0.2"), dns_search=("lan",), dns_opts=("ndots:2",)))
    assert text == "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch lan\noptions ndots:2\n"


def test_without_them_the_hosts_file_is_as_it_is() -> None:
    host = Path("/etc/resolv.conf")
    assert host_resolv(Settings()) == (host.read_text() if host.exists() else "")
