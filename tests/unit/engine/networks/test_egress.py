from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.networks import egress
from skiff.engine.networks.egress import EVERY_PORT, Pass, parse, passes
from skiff.errors import InvalidParameter


@pytest.mark.parametrize("text", ["", "all"])
def test_nothing_is_kept_back(text: str) -> None:
    assert parse(text).open
    assert not egress.restricts(text)


def test_none_allows_no_name() -> None:
    assert not parse("none").open
    assert parse("none").ports("none") == ()


@pytest.mark.parametrize(
    ("policy", "name", "ports"),
    [
        ("good.test", "good.test", (EVERY_PORT,)),
        ("Good.Test.", "GOOD.test", (EVERY_PORT,)),
        ("good.test", "api.good.test", ()),
        ("good.test", "notgood.test", ()),
        ("*.good.test", "api.good.test", (EVERY_PORT,)),
        ("*.good.test", "a.b.good.test", (EVERY_PORT,)),
        ("*.good.test", "good.test", ()),
        ("*.good.test", "notgood.test", ()),
        ("good.test:443, good.test:80", "good.test", (80, 443)),
        ("good.test:443,good.test", "good.test", (EVERY_PORT,)),
        ("*.test:80,db.test:5432", "db.test", (80, 5432)),
        ("10.0.0.0/8", "10.0.0.1", ()),
    ],
)
def test_names(policy: str, name: str, ports: tuple[int, ...]) -> None:
    assert parse(policy).ports(name) == ports


def test_addresses_and_ranges() -> None:
    policy = parse("192.0.2.7,10.0.0.0/8:53,fd00::/8,[2001:db8::1]:443,[2001:db8::2]")
    assert policy.names == policy.below == ()
    assert policy.ranges == (
        (ip_network("192.0.2.7"), 0),
        (ip_network("10.0.0.0/8"), 53),
        (ip_network("fd00::/8"), 0),
        (ip_network("2001:db8::1"), 443),
        (ip_network("2001:db8::2"), 0),
    )


@pytest.mark.parametrize(
    "text",
    [
        *(
            ",",
            "good.test,",
            "none,good.test",
            "all,good.test",
            "*",
            "*.",
            "a.*.test",
            "good..test",
            "-a.test",
        ),
        *("good.test:", "good.test:0", "good.test:65536", "good.test:http", "good.test:80-90", "bücher.test"),
        *(
            "10.0.0.1/8",
            "10.0.0.0/33",
            "[fd00::1",
            "[fd00::1]80",
            "a/b",
            "https://good.test",
            "x" * 64,
            "1.2.3.400",
            "256",
        ),
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid egress destination"):
        parse(text)


def test_what_may_pass_without_a_question() -> None:
    policy = parse("db:5432,*.net,172.18.0.0/24,172.18.1.0/24,172.18.0.9")
    near: list[tuple[list[str], list[IPv4Address | IPv6Address]]] = [
        (["db", "store"], [IPv4Address("172.18.0.2"), IPv6Address("fd00::2")]),
        (["web", "web.net"], [IPv4Address("172.18.0.3"), IPv4Address("172.19.0.3")]),
        (["other"], [IPv4Address("172.18.0.4")]),
    ]
    assert passes("v0", policy, near) == [
        Pass("v0", ip_network("172.18.0.0/23"), EVERY_PORT),
        Pass("v0", ip_network("172.19.0.3"), EVERY_PORT),
        Pass("v0", ip_network("172.18.0.2"), 5432),
        Pass("v0", ip_network("fd00::2"), 5432),
    ]


@pytest.mark.parametrize(("ttl", "seconds"), [(0, 2), (1, 2), (60, 60), (2**31, 86400)])
def test_how_long_an_answer_opens(ttl: int, seconds: int) -> None:
    assert egress.seconds(ttl) == seconds


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "::1", "fe80::1", "::ffff:169.254.169.254"],
)
def test_no_answer_opens_what_is_no_way_out(text: str) -> None:
    assert not egress.is_elsewhere(ip_address(text))
    assert egress.is_elsewhere(ip_address("10.0.0.1"))


@given(st.text("abc.*:,[]/0-1", max_size=40))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    try:
        policy = parse(text)
    except InvalidParameter:
        return
    assert policy.open or all(policy.ports(name) for name, _ in policy.names)
