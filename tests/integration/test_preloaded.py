"""The command line that an engine keeps loaded: whoever calls it cannot tell, but for the time."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiff.linux import machine, syscalls
from tests.integration.engines import Engine, Run, wait_for

pytestmark = pytest.mark.skipif(
    syscalls.architecture() not in machine.WALK, reason="no code for this architecture"
)

SKIFF = Path(sys.executable).parent / "skiff"


@pytest.fixture
def loaded(own_engine: Engine) -> Iterator[Engine]:
    """An engine that a command line has called."""
    skiff(own_engine, "version").ok()
    wait_for(lambda: sign(own_engine).exists(), 20, own_engine.log)
    yield own_engine


def sign(engine: Engine) -> Path:
    """Names the front."""
    return Path(f"{engine.socket}.front")


def skiff(engine: Engine, *words: str, **how: object) -> Run:
    done = subprocess.run(
        [*engine.network.enter, SKIFF, *words],
        env=engine.client_environment(),
        timeout=60,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how,  # type: ignore[call-overload]
    )
    out, err = done.stdout or b"", done.stderr or b""
    return Run(done.returncode, out.decode(), err.decode())


def begun(engine: Engine, *words: str, **how: object) -> subprocess.Popen[bytes]:
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [*engine.network.enter, SKIFF, *words],
        env=engine.client_environment(),
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | how,  # type: ignore[call-overload]
    )
    return process


def is_front(pid: int) -> bool:
    return os.readlink(f"/proc/{pid}/exe").endswith("/front")


def test_it_is_used(loaded: Engine) -> None:
    process = begun(loaded, "events")
    wait_for(lambda: len(loaded.command_lines()) == 3, 20, loaded.log)
    assert is_front(process.pid)
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM
    wait_for(lambda: len(loaded.command_lines()) == 2, 20, loaded.log)


def test_streams_and_exit_codes(loaded: Engine) -> None:
    done = skiff(loaded, "run", "--rm", "--network=none", "busybox", "sh", "-c", "echo a; echo b >&2; exit 7")
    assert (done.code, done.out, done.err) == (7, "a\n", "b\n")
    much = bytes(range(256)) * 40_000
    given = ("run", "-i", "--rm", "--network=none", "busybox", "cat")
    process = begun(loaded, *given, stdin=subprocess.PIPE)
    assert process.communicate(much, 60)[0] == much
    assert skiff(loaded, "inspect", "nobody").code == 1
    assert skiff(loaded, "ps", "--nonsense").code == 125


def test_the_callers_surroundings(loaded: Engine, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("FROM=a file\n")
    run = ("run", "--rm", "--network=none", "-e", "HOME", "--env-file", "env", "-v", "./:/here:ro", "busybox")
    out = skiff(loaded, *run, "sh", "-c", 'echo "$HOME $FROM"; ls /here', cwd=tmp_path).ok()
    assert out == f"{loaded.root} a file\nenv"
    skiff(loaded, "save", "-o", "saved.tar", "busybox", cwd=tmp_path, umask=0o077).ok()
    assert (tmp_path / "saved.tar").stat().st_mode & 0o777 == 0o600


def test_a_descriptor_of_the_callers(loaded: Engine, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"PIPED=yes\n")
    os.close(write)
    file = f"/dev/fd/{read}"
    run = ("run", "--rm", "--network=none", "--env-file", file, "busybox", "sh", "-c", "echo $PIPED")
    assert skiff(loaded, *run, pass_fds=[read]).ok() == "yes"
    os.close(read)


def test_signals_reach_the_container(loaded: Engine) -> None:
    script = 'trap "exit 9" TERM; echo up; while :; do sleep 0.1; done'
    process = begun(loaded, "run", "--rm", "--network=none", "busybox", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert is_front(process.pid)
    process.terminate()
    assert process.wait(20) == 9


def test_an_interrupt_and_a_broken_pipe(loaded: Engine) -> None:
    process = begun(loaded, "events")
    wait_for(lambda: len(loaded.command_lines()) == 3, 20, loaded.log)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (-signal.SIGINT, 130)
    flood = ("run", "--rm", "--network=none", "busybox", "yes")
    process = begun(loaded, *flood)
    assert process.stdout is not None
    process.stdout.read(1000)
    process.stdout.close()
    assert process.wait(20) == -signal.SIGPIPE


def test_signals_at_any_moment(loaded: Engine) -> None:
    """It dies of it as an interpreter does, and says nothing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        for milliseconds in range(12):
            process = begun(loaded, "events", stderr=subprocess.PIPE)
            time.sleep(milliseconds / 1000)
            process.send_signal(number)
            _, err = process.communicate(timeout=20)
            if is_loaded(err):
                assert (process.returncode, err) == (-number, b"")


def is_loaded(err: bytes) -> bool:
    """Not interrupted while its shell or an interpreter started."""
    return b"Traceback" not in err


def test_signals_that_the_caller_has_blocked(loaded: Engine) -> None:
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    process = begun(loaded, "events", preexec_fn=block)
    wait_for(lambda: len(loaded.command_lines()) == 3, 20, loaded.log)
    process.terminate()
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == -signal.SIGHUP


def test_nothing_of_the_callers_is_held_after_its_end(loaded: Engine, tmp_path: Path) -> None:
    for _ in range(20):
        with open(tmp_path / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            skiff(loaded, "version", pass_fds=[lock.fileno()]).ok()
        with open(tmp_path / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_killed_callers_take_their_workers_along(loaded: Engine) -> None:
    processes = [begun(loaded, "events") for _ in range(5)]
    wait_for(lambda: len(loaded.command_lines()) == 7, 20, loaded.log)
    for process in processes:
        process.kill()
        assert process.wait(20) == -signal.SIGKILL
    wait_for(lambda: len(loaded.command_lines()) == 2, 20, loaded.log)


def test_a_killed_worker_takes_its_caller_along(loaded: Engine) -> None:
    before = set(loaded.command_lines())
    process = begun(loaded, "events")
    wait_for(lambda: len(loaded.command_lines()) == 3, 20, loaded.log)
    assert is_front(process.pid)
    waiting = before & set(loaded.command_lines())  # the server, and who is at work
    os.kill(max(waiting), signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL


def test_a_caller_at_a_terminal_has_a_process_of_his_own(loaded: Engine) -> None:
    ours, theirs = os.openpty()
    try:
        process = begun(loaded, "events", stdin=theirs)
        wait_for(lambda: b"cli/__main__" in Path(f"/proc/{process.pid}/cmdline").read_bytes(), 20, loaded.log)
        assert not is_front(process.pid)
        process.terminate()
        process.wait(20)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_caller_with_fewer_rights_has_a_process_of_his_own(loaded: Engine) -> None:
    process = subprocess.Popen(
        [*loaded.network.enter, "setpriv", "--no-new-privs", SKIFF, "events"],
        env=loaded.client_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: b"cli/__main__" in Path(f"/proc/{process.pid}/cmdline").read_bytes(), 20, loaded.log)
    wait_for(lambda: not is_front(process.pid), 20, loaded.log)
    process.terminate()
    process.wait(20)


def test_many_at_once(loaded: Engine) -> None:
    processes = [begun(loaded, "version", "--format", "{{.Client.Version}}") for _ in range(30)]
    assert {process.communicate(timeout=60)[0] for process in processes} == {
        skiff(loaded, "version", "--format", "{{.Client.Version}}").ok().encode() + b"\n"
    }


def test_only_its_own_user_may_call_it(loaded: Engine) -> None:
    assert sign(loaded).stat().st_mode & 0o777 == 0o600
    assert Path(sign(loaded).read_text().strip()).stat().st_mode & 0o777 == 0o700
    assert Path(loaded.root, "run/command-line.sock").stat().st_mode & 0o777 == 0o600


def test_it_goes_with_the_engine(loaded: Engine) -> None:
    process = begun(loaded, "run", "--rm", "--network=none", "busybox", "sh", "-c", "echo up; sleep 600")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    loaded.stop()
    assert not sign(loaded).exists()
    wait_for(lambda: len(loaded.command_lines()) == 1, 20, loaded.log)
    assert process.poll() is None  # a command in progress goes on, as its container does
    loaded.start()
    (container,) = skiff(loaded, "ps", "-q").ok().split()
    skiff(loaded, "kill", container).ok()
    assert process.wait(20) == 125  # it waited by the engine that left


def test_it_goes_when_the_engine_is_killed(loaded: Engine) -> None:
    loaded.crash()
    wait_for(lambda: not sign(loaded).exists(), 20, loaded.log)
    assert "Cannot connect" in skiff(loaded, "ps").err
    wait_for(lambda: not loaded.command_lines(), 20, loaded.log)
    loaded.start()


def test_not_asked_for(own_engine: Engine) -> None:
    own_engine.stop()
    own_engine.flags = (*own_engine.flags, "--preload=false")
    own_engine.start()
    skiff(own_engine, "version").ok()
    skiff(own_engine, "version").ok()
    assert not own_engine.command_lines()


def test_a_server_that_ended_is_replaced(loaded: Engine) -> None:
    server = min(loaded.command_lines())
    os.kill(server, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{server}").exists(), 20, loaded.log)  # nor is a zombie left
    skiff(loaded, "version").ok()
    wait_for(lambda: len(loaded.command_lines()) == 2, 20, loaded.log)
