"""Logs, layers, users, health, restart: what is decided from data."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.docker import jsonlog
from skiff.docker.container import RestartPolicy
from skiff.docker.container_view import ContainerState, Health
from skiff.docker.signals import signal_number
from skiff.engine.containers import health, layers, logs, restart
from skiff.engine.containers.keys import detach_keys
from skiff.engine.containers.spec import users
from skiff.engine.containers.views import status_text
from skiff.engine.execution.runtime import TaskExit
from skiff.errors import InvalidParameter, NotFound

SECOND = 1_000_000_000


def written(tmp_path: Path) -> str:
    """Lines 0…29, the oldest ten compressed, the next ten rotated."""
    path = tmp_path / "x-json.log"
    lines = [
        jsonlog.encode("stderr" if n % 5 == 0 else "stdout", f"line {n}\n".encode(), n * SECOND)
        for n in range(30)
    ]
    with gzip.open(f"{path}.2.gz", "wb") as file:
        file.write(b"".join(lines[:10]))
    Path(f"{path}.1").write_bytes(b"".join(lines[10:20]))
    path.write_bytes(b"".join(lines[20:]))
    return str(path)


def numbers(path: str, **query: object) -> list[int]:
    asked = logs.LogQuery(**query)  # type: ignore[arg-type]
    text = b"".join(logs.gathered(logs.past(path, asked), asked, True))
    return [int(line.split()[-1]) for line in text.decode().splitlines()]


@pytest.mark.parametrize("tail", [0, 1, 9, 10, 11, 25, 30, 99])
def test_tail_reaches_back_through_rotated_files(tmp_path: Path, tail: int) -> None:
    assert numbers(written(tmp_path), tail=tail) == list(range(30))[max(0, 30 - tail) :]


def test_all_streams_since_and_until(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert numbers(path) == list(range(30))
    assert numbers(path, stdout=False, tail=2) == [20, 25]
    assert numbers(path, since=5 * SECOND, until=12 * SECOND) == list(range(5, 13))


def test_no_log_yet(tmp_path: Path) -> None:
    assert numbers(str(tmp_path / "none")) == []
    assert numbers(str(tmp_path / "none"), tail=3) == []


def test_a_file_is_found_in_the_topmost_layer_and_nothing_outside(tmp_path: Path) -> None:
    top, low = tmp_path / "top", tmp_path / "low"
    (top / "etc").mkdir(parents=True)
    (low / "etc").mkdir(parents=True)
    (low / "usr").mkdir()
    (low / "etc/passwd").write_text("low")
    (low / "etc/group").symlink_to("/usr/group")
    (low / "usr/group").write_text("linked")
    (top / "etc/escape").symlink_to("../../../../../../etc/hostname")
    (top / "etc/loop").symlink_to("loop")
    stack = [str(top), str(low)]
    assert layers.read(stack, "/etc/passwd") == b"low"
    assert layers.read(stack, "/etc/group") == b"linked"
    (top / "etc/passwd").write_text("top")
    assert layers.read(stack, "/etc/passwd") == b"top"
    for path in ("/etc/escape", "/etc/loop", "/etc", "/none", "/etc/passwd/x"):
        with pytest.raises(NotFound):
            layers.read(stack, path)


FILES = {
    "/etc/passwd": "root:x:0:0:r:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\nbad line\n",
    "/etc/group": "root:x:0:\nextra:x:50:web,other\nweb:x:1000:\n",
}


@pytest.mark.parametrize(
    ("text", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (0,), "/root"),
        ("web", 1000, 1000, (1000, 50), "/home/web"),
        ("1000", 1000, 1000, (1000, 50), "/home/web"),
        ("web:extra", 1000, 50, (50,), "/home/web"),
        ("12345:6", 12345, 6, (6,), "/"),
    ],
)
def test_users(text: str, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
    found = users.identity(text, lambda path: FILES[path])
    assert (found.user.uid, found.user.gid, found.user.additional_gids, found.home) == (
        uid,
        gid,
        groups,
        home,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nope", "unable to find user nope: no matching entries in passwd file"),
        ("web:nope", "unable to find group nope: no matching entries in group file"),
    ],
)
def test_unknown_users(text: str, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        users.identity(text, lambda path: FILES[path])


@given(st.text(max_size=40), st.text(max_size=200))
def test_no_passwd_crashes(text: str, content: str) -> None:
    try:
        users.identity(text, lambda path: content)
    except InvalidParameter:
        pass


def ended(code: int, seconds: float) -> TaskExit:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return TaskExit(id="x", code=code, started=at, finished=at + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("name", "limit", "code", "restarts", "again"),
    [
        ("no", 0, 1, 0, False),
        ("always", 0, 0, 5, True),
        ("unless-stopped", 0, 1, 0, True),
        ("on-failure", 0, 0, 0, False),
        ("on-failure", 0, 1, 99, True),
        ("on-failure", 2, 1, 1, True),
        ("on-failure", 2, 1, 2, False),
    ],
)
def test_restart(name: str, limit: int, code: int, restarts: int, again: bool) -> None:
    policy = RestartPolicy(name=name, maximum_retry_count=limit)
    delay = restart.next_start(
        policy, ended(code, 1), restarts=restarts, previous=restart.NO_DELAY, stopped_by_user=False
    )
    assert (delay is not None) is again
    assert (
        restart.next_start(
            policy, ended(code, 1), restarts=0, previous=restart.NO_DELAY, stopped_by_user=True
        )
        is None
    )


def test_the_delay_doubles_until_a_run_is_steady() -> None:
    policy = RestartPolicy(name="always")
    delay, seen = restart.NO_DELAY, []
    for _ in range(12):
        delay = (
            restart.next_start(policy, ended(1, 1), restarts=0, previous=delay, stopped_by_user=False)
            or delay
        )
        seen.append(delay.total_seconds())
    assert seen[:4] == [0.1, 0.2, 0.4, 0.8] and seen[-1] == 60
    steady = restart.next_start(policy, ended(1, 10), restarts=0, previous=delay, stopped_by_user=False)
    assert steady == restart.FIRST_DELAY


def test_health_counts_failures_after_the_start_period() -> None:
    check = health.Check(("x",), timedelta(1), timedelta(1), timedelta(seconds=10), timedelta(1), 2)
    bad, good = health.Probe(0, 1, 1, "no"), health.Probe(0, 1, 0, "yes")
    now = health.observe(Health(), bad, check, age=timedelta(seconds=5))
    assert (now.status, now.failing_streak) == ("starting", 0)
    for status in ("starting", "unhealthy"):
        now = health.observe(now, bad, check, age=timedelta(seconds=20))
        assert now.status == status
    now = health.observe(now, good, check, age=timedelta(seconds=30))
    assert (now.status, now.failing_streak, len(now.log)) == ("healthy", 0, 4)
    for _ in range(9):
        now = health.observe(now, good, check, age=timedelta(seconds=30))
    assert len(now.log) == health.KEPT


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ContainerState(), "Created"),
        (ContainerState(running=True, started_at="1970-01-01T00:00:00Z"), "Up About a minute"),
        (
            ContainerState(running=True, paused=True, started_at="1970-01-01T00:00:00Z"),
            "Up About a minute (Paused)",
        ),
        (
            ContainerState(running=True, started_at="1970-01-01T00:00:00Z", health=Health()),
            "Up About a minute (health: starting)",
        ),
        (
            ContainerState(
                status="exited",
                exit_code=3,
                started_at="1970-01-01T00:00:00Z",
                finished_at="1970-01-01T00:00:30Z",
            ),
            "Exited (3) 30 seconds ago",
        ),
    ],
)
def test_status_texts(state: ContainerState, text: str) -> None:
    assert status_text(state, 60 * SECOND) == text


@pytest.mark.parametrize(
    ("text", "number"), [("SIGTERM", 15), ("kill", 9), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX", 64)]
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["FOO", "0", "65", "RTMIN+99", "-1", ""])
def test_no_signals(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"invalid signal|does not support signal"):
        signal_number(text)


@pytest.mark.parametrize(
    ("text", "keys"), [("", b"\x10\x11"), ("ctrl-a,b", b"\x01b"), ("ctrl-@,ctrl-_", b"\x00\x1f")]
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert detach_keys(text) == keys
