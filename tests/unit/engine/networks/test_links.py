import pytest

from skiff.engine.networks.links import Target, environment, hosts_entry, parse, shown
from skiff.errors import InvalidParameter

MONGO = Target(
    id="2a68c669eeb0" * 5,
    name="mongodb",
    hostname="2a68c669eeb0",
    address="172.17.0.2",
    exposed=("28017/tcp", "27017/tcp", "27017/udp"),
    env=("PATH=/bin", "HOME=/root", "FOO=1", "BARE"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mongodb:mongo", ("mongodb", "mongo")),
        ("mongodb", ("mongodb", "mongodb")),
        ("/mongodb:/web/mongo", ("mongodb", "mongo")),
    ],
)
def test_parse(text: str, expected: tuple[str, str]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", ":", "a:", ":b", "/"])
def test_malformed_links_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="bad format for links"):
        parse(text)


def test_inspect_shows_both_ends() -> None:
    assert shown("web", "mongodb:mongo") == "/mongodb:/web/mongo"


def test_the_hosts_file_knows_alias_id_and_name() -> None:
    assert hosts_entry("mongo", MONGO) == ("172.17.0.2", "mongo 2a68c669eeb0 mongodb")
    assert hosts_entry("mongodb", MONGO) == ("172.17.0.2", "mongodb 2a68c669eeb0")


def test_the_environment_describes_the_target() -> None:
    assert environment("web", "my-db", MONGO) == [
        "MY_DB_PORT=tcp://172.17.0.2:27017",
        "MY_DB_PORT_27017_TCP=tcp://172.17.0.2:27017",
        "MY_DB_PORT_27017_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_27017_TCP_PORT=27017",
        "MY_DB_PORT_27017_TCP_PROTO=tcp",
        "MY_DB_PORT_27017_UDP=udp://172.17.0.2:27017",
        "MY_DB_PORT_27017_UDP_ADDR=172.17.0.2",
        "MY_DB_PORT_27017_UDP_PORT=27017",
        "MY_DB_PORT_27017_UDP_PROTO=udp",
        "MY_DB_PORT_28017_TCP=tcp://172.17.0.2:28017",
        "MY_DB_PORT_28017_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_28017_TCP_PORT=28017",
        "MY_DB_PORT_28017_TCP_PROTO=tcp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_FOO=1",
    ]
