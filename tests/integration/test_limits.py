"""Limits hold, can be changed while a container runs, and what they cost is told."""

import resource
import socket
import time

import pytest

from tests.integration.engines import Engine, wait_for

pytestmark = pytest.mark.root
RUN = ("run", "--network", "none")


def test_out_of_memory_is_told(engine: Engine) -> None:
    since = int(time.time()) - 1
    script = "x=a; while true; do x=$x$x; done"
    done = engine.docker(
        *RUN, "--name", "hungry", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", script
    )
    assert done.code == 137
    state = engine.client.get("/containers/hungry/json").json()["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    told = (
        engine.docker(
            "events",
            "--since",
            str(since),
            "--until",
            str(int(time.time()) + 1),
            "--filter",
            "container=hungry",
            "--format",
            "{{.Action}}",
        )
        .ok()
        .split()
    )
    assert "oom" in told


def test_a_fork_bomb_is_bounded(engine: Engine) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo unbounded"
    done = engine.docker(*RUN, "--rm", "--pids-limit", "6", "busybox", "sh", "-c", script)
    assert "can't fork" in done.err
    assert "unbounded" not in done.out


def test_rlimits(engine: Engine) -> None:
    script = "ulimit -n; ulimit -Hn; ulimit -c"
    out = engine.docker(
        *RUN, "--rm", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "busybox", "sh", "-c", script
    )
    assert out.ok().split() == ["100", "200", "0"]


def test_an_rlimit_out_of_reach_is_told(engine: Engine) -> None:
    """Without CAP_SYS_RESOURCE the engine's own hard limit is the most; with it there is nothing to tell."""
    asked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] + 4096
    limits = ("--ulimit", f"memlock={asked}:{asked}", "--ulimit", "nofile=50:60")
    done = engine.docker(
        *RUN, "--rm", *limits, "busybox", "sh", "-c", "grep locked /proc/self/limits; ulimit -n"
    )
    got = int(done.ok().split()[4])
    warned = f"Ulimit memlock={asked}:{asked} is more than this engine may give" in done.err
    assert (got, warned) in ((asked, False), (asked - 4096, True)), done
    assert done.out.endswith("\n50\n") and "nofile" not in done.err


def test_the_log_driver_local_rotates_and_is_read(engine: Engine) -> None:
    id = engine.docker(
        *RUN,
        "-d",
        "--log-driver",
        "local",
        "--log-opt",
        "max-size=20k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "seq",
        "1",
        "3000",
    ).ok()
    engine.docker("wait", id).ok()
    lines = engine.docker("logs", id).ok().split()
    assert lines[-1] == "3000"
    assert lines == [str(n) for n in range(int(lines[0]), 3001)]
    assert int(lines[0]) > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("mode=bad",), "logging mode not supported: bad"),
        (("max-buffer-size=1m",), "only supported with 'mode=non-blocking'"),
        (("nosuch=1",), "unknown log opt 'nosuch'"),
        (("labels-regex=(",), "invalid labels-regex"),
        (("tag={{.Nosuch}}",), "no field Nosuch"),
    ],
)
def test_log_options_that_mean_nothing_are_refused(
    options: tuple[str, ...], words: str, engine: Engine
) -> None:
    flags = [word for option in options for word in ("--log-opt", option)]
    done = engine.docker(*RUN, "--rm", *flags, "busybox", "true")
    assert done.code == 125
    assert words in done.err


def test_log_records_carry_labels_environment_and_tag(engine: Engine) -> None:
    engine.docker(
        *RUN, "--name", "tagged", "--label", "a.b=1", "--label", "c=2", "-e", "LANG=x",
        "--log-opt", "labels-regex=^a", "--log-opt", "env-regex=^LA", "--log-opt", "tag={{.Name}}/{{.ID}}",
        "busybox", "echo", "hi",
    ).ok()  # fmt: skip
    id = engine.docker("inspect", "-f", "{{.Id}}", "tagged").ok()
    assert engine.docker("logs", "--details", "tagged").ok() == f"LANG=x,a.b=1,tag=tagged%2F{id[:12]} hi"


def test_attach_with_logs_neither_loses_nor_repeats(engine: Engine) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done"
    id = engine.docker(*RUN, "-d", "busybox", "sh", "-c", f"sleep 0.1; {script}; sleep 1").ok()
    time.sleep(0.15)
    stream, _ = engine.client.stream(f"/containers/{id}/attach", logs=1, stream=1, stdout=1, stderr=1)
    received = _unframed(stream)
    assert received.split() == [b"%d" % n for n in range(1, 20001)]


def test_a_client_that_never_reads_does_not_hold_up_removal(engine: Engine) -> None:
    id = engine.docker(*RUN, "-d", "busybox", "sh", "-c", "sleep 0.3; yes | head -c 3000000").ok()
    stream, _ = engine.client.stream(f"/containers/{id}/attach", stream=1, stdout=1)
    time.sleep(0.5)
    engine.docker("rm", "-f", id).ok()
    wait_for(lambda: engine.client.get(f"/containers/{id}/json").status == 404, 5, lambda: "still there")
    stream.close()


def _unframed(stream: socket.socket) -> bytes:
    text = bytearray()
    with stream.makefile("rb") as file:
        while header := file.read(8):
            text += file.read(int.from_bytes(header[4:], "big"))
    return bytes(text)
