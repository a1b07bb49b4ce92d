from skiff.engine.networks.resolv import (
    ResolvConf,
    overridden,
    parse,
    reachable,
    rendered,
    through_resolver,
)

HOST = """# made by something
nameserver 192.0.2.53   # first
nameserver 127.0.0.53
domain old.example
search a.example b.example
options edns0 timeout:2
; nameserver 192.0.2.99
"""


def test_parse() -> None:
    assert parse(HOST) == ResolvConf(
        ("192.0.2.53", "127.0.0.53"), ("a.example", "b.example"), ("edns0", "timeout:2")
    )


def test_servers_on_a_loopback_are_left_out() -> None:
    assert reachable(parse(HOST)).servers == ("192.0.2.53",)
    assert reachable(ResolvConf(("127.0.0.53", "::1"))).servers == ("8.8.8.8", "8.8.4.4")


def test_overrides_replace_what_they_name() -> None:
    host = parse(HOST)
    assert overridden(host, ["1.1.1.1"], (), ()).servers == ("1.1.1.1",)
    assert overridden(host, (), ["x.example"], ()).search == ("x.example",)
    assert overridden(host, (), ["."], ()).search == ()
    assert overridden(host, (), (), ["ndots:3"]).options == ("ndots:3",)
    assert overridden(host, (), (), ()) == host


def test_with_a_resolver_of_ours() -> None:
    conf = through_resolver(parse(HOST), "127.0.0.11")
    assert rendered(conf) == (
        "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 timeout:2 ndots:0\n"
    )
    assert through_resolver(ResolvConf(options=("ndots:5",)), "127.0.0.11").options == ("ndots:5",)
