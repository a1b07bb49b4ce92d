"""Users and groups of a rootfs, from the text of its files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.errors import InvalidParameter
from skiff.linux import users
from skiff.linux.users import Identity

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment:x:7:7
daemon:x:1:1:daemon:/usr/sbin:/bin/false
web:x:1000:100:Web:/home/web:/bin/sh
short:x:5
bad:x:five:5::/:
nohome:x:12:12
77:x:1077:1077::/seven:
"""
GROUP = """root:x:0:
wheel:x:10:root,web
users:x:100:
audio:x:29:web,root
docker:x:999:nobody
broken
"""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", Identity(0, 0, (10, 29), "/root", "root")),
        ("root", Identity(0, 0, (10, 29), "/root", "root")),
        ("0", Identity(0, 0, (10, 29), "/root", "root")),
        ("web", Identity(1000, 100, (10, 29), "/home/web", "web")),
        ("1000", Identity(1000, 100, (10, 29), "/home/web", "web")),
        ("web:docker", Identity(1000, 999, (), "/home/web", "web")),
        ("web:5", Identity(1000, 5, (), "/home/web", "web")),
        ("1234", Identity(1234, 0, (), "/", "")),
        ("1234:4321", Identity(1234, 4321, (), "/", "")),
        (":docker", Identity(0, 999, (), "/root", "root")),
        ("77", Identity(1077, 1077, (), "/seven", "77")),
        ("nohome", Identity(12, 12, (), "/", "nohome")),
    ],
)
def test_resolve(spec: str, expected: Identity) -> None:
    assert users.resolve(spec, PASSWD, GROUP.encode()) == expected


def test_without_files() -> None:
    assert users.resolve("") == Identity(0, 0, (), "/", "")
    assert users.resolve("5:6") == Identity(5, 6, (), "/", "")


def test_additional_groups() -> None:
    assert users.resolve("web", PASSWD, GROUP, ["audio", "docker", "4242"]).groups == (10, 29, 999, 4242)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("foo", "unable to find user foo: no matching entries in passwd file"),
        ("web:foo", "unable to find group foo: no matching entries in group file"),
        ("bad", "unable to find user bad: no matching entries in passwd file"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("1:4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "unable to find user -1: no matching entries in passwd file"),
    ],
)
def test_who_is_not_there(spec: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        users.resolve(spec, PASSWD, GROUP)
    assert str(caught.value) == message


@given(st.text(max_size=20), st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_resolve_or_are_refused(spec: str, passwd: bytes, group: bytes) -> None:
    try:
        found = users.resolve(spec, passwd, group)
    except InvalidParameter:
        return
    assert 0 <= found.uid <= users.HIGHEST_ID
    assert 0 <= found.gid <= users.HIGHEST_ID


names = st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True)


@given(st.lists(st.tuples(names, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), max_size=10))
def test_entries_survive_a_round_trip(entries: list[tuple[str, int, int]]) -> None:
    text = "".join(f"{name}:x:{uid}:{gid}::/home/{name}:/bin/sh\n" for name, uid, gid in entries)
    assert [(e.name, e.uid, e.gid) for e in users.passwd_entries(text)] == entries
