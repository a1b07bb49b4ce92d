import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.api import listeners
from skiff.engine.settings import Settings
from skiff.errors import InvalidParameter, SkiffError


def opened(
    *hosts: str, group: str = "", environment: dict[str, str] | None = None
) -> list[listeners.Listener]:
    return listeners.open_all(
        Settings(hosts=hosts, group=group), environment or {}, default="unix:///nowhere"
    )


def test_a_unix_socket_is_for_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "s"
    (listener,) = opened(f"unix://{path}", group=str(os.getgid()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listeners.close(listener)
    assert not path.exists()


def test_an_unknown_group_leaves_root_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (listener,) = opened(f"unix://{tmp_path}/s", group="no-such-group")
    assert "only root may connect" in caplog.text
    listeners.close(listener)


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    (listener,) = opened(f"unix://{path}")
    with pytest.raises(SkiffError, match="another engine answers there"):
        opened(f"unix://{path}")
    listeners.close(listener)


def test_docker_s_socket_is_taken_only_if_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    docker = tmp_path / "docker.sock"

    def both(name: str) -> list[listeners.Listener]:
        asked = Settings(hosts=(f"unix://{tmp_path}/{name}",), group="", docker_socket=True)
        return listeners.open_all(asked, {}, default="", docker=str(docker))

    first = both("one")
    assert [listener.path for listener in first] == [f"{tmp_path}/one", str(docker)]
    second = both("two")
    assert [listener.path for listener in second] == [f"{tmp_path}/two"]
    assert "another engine answers there" in caplog.text
    for listener in (*first, *second):
        listeners.close(listener)
    assert not docker.exists()


def test_a_file_in_the_way_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"mine")
    with pytest.raises(SkiffError, match="is no socket"):
        opened(f"unix://{path}")
    assert path.read_bytes() == b"mine"


def test_when_one_fails_the_others_are_closed(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter):
        opened(f"unix://{tmp_path}/s", "tcp://127.0.0.1:notaport")
    assert not (tmp_path / "s").exists()


def test_tcp(caplog: pytest.LogCaptureFixture) -> None:
    (listener,) = opened("tcp://127.0.0.1:0")
    assert listener.socket.getsockname()[0] == "127.0.0.1"
    assert "without TLS" in caplog.text
    listeners.close(listener)


def test_tls_needs_its_files() -> None:
    with pytest.raises(InvalidParameter, match="--tlscert"):
        listeners.open_all(Settings(hosts=("tcp://127.0.0.1:0",), tls=True), {}, default="")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:2375", ("127.0.0.1", 2375)),
        (":2375", ("0.0.0.0", 2375)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", 1)),
        ("host", ("host", 1)),
        ("host:1/", ("host", 1)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert listeners.split_address(address, 1) == expected


@given(st.text(max_size=20))
def test_no_address_crashes_it(address: str) -> None:
    try:
        _, port = listeners.split_address(address, 1)
    except InvalidParameter:
        return
    assert 0 <= port <= 65535


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}],
)
def test_sockets_that_nobody_passed(environment: dict[str, str]) -> None:
    with pytest.raises(SkiffError, match="no sockets found via socket activation"):
        opened("fd://", environment=environment)


def test_a_passed_socket_of_another_name() -> None:
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
    with pytest.raises(SkiffError, match="no such systemd socket: api"):
        opened("fd://api", environment=environment)
