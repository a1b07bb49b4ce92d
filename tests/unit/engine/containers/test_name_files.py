from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.containers.name_files import follow_addresses, follow_servers, with_addresses

HOSTS = "127.0.0.1\tlocalhost\n10.0.0.9\tdb\n172.17.0.2\tbox\n"


def test_own_lines_follow_and_others_stay() -> None:
    text = with_addresses(HOSTS, "box", ["172.17.0.2", "10.5.0.2"])
    assert text == HOSTS + "10.5.0.2\tbox\n"
    assert with_addresses(text, "box", ["10.5.0.2"]) == HOSTS.replace("172.17.0.2", "10.5.0.2")
    assert with_addresses(text, "box", []) == HOSTS.replace("172.17.0.2\tbox\n", "")


def test_the_file_is_the_same_one_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(HOSTS.encode() + b"\xff\xfe mine\n")
    number = path.stat().st_ino
    follow_addresses(path, "box", [])
    assert path.read_bytes() == b"127.0.0.1\tlocalhost\n10.0.0.9\tdb\n\xff\xfe mine\n"
    assert path.stat().st_ino == number


def test_a_resolv_conf_that_somebody_changed_stays(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    for text, expected in (("old\n", "new\n"), ("old\nmine\n", "old\nmine\n")):
        path.write_text(text)
        follow_servers(path, "old\n", "new\n")
        assert path.read_text() == expected


@given(st.text("ab\t\n127.", max_size=60), st.lists(st.sampled_from(["1.2.3.4", "::1"]), unique=True))
def test_any_file_can_be_mended(text: str, addresses: list[str]) -> None:
    mended = with_addresses(text, "box", addresses)
    assert with_addresses(mended, "box", addresses) == mended
    assert all(f"{address}\tbox" in mended.splitlines() for address in addresses)
