"""The engine comes and goes; containers do not notice."""

import signal
import subprocess

from tests.integration.engines import Engine, wait_for

SLEEPER = ("run", "-d", "--name", "web", "--network", "none", "busybox")


def test_containers_survive_an_engine_restart(own_engine: Engine) -> None:
    own_engine.docker(*SLEEPER, "sh", "-c", "while :; do echo tick; sleep 0.1; done").ok()
    pid = own_engine.docker("inspect", "-f", "{{.State.Pid}}", "web").ok()
    own_engine.stop()
    own_engine.start()
    assert (
        own_engine.docker("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "web").ok() == f"running {pid}"
    )
    assert own_engine.docker("exec", "web", "echo", "hello").ok() == "hello"
    own_engine.docker("stop", "-t", "0", "web").ok()
    assert "tick" in own_engine.docker("logs", "web").out


def test_containers_survive_a_crash_of_the_engine(own_engine: Engine) -> None:
    own_engine.docker(*SLEEPER, "sleep", "600").ok()
    own_engine.crash()
    own_engine.start()
    assert own_engine.docker("inspect", "-f", "{{.State.Status}}", "web").ok() == "running"
    own_engine.docker("kill", "web").ok()
    assert own_engine.docker("wait", "web").ok() == "137"


def test_an_exit_during_absence_is_known_afterwards(own_engine: Engine) -> None:
    own_engine.docker(*SLEEPER, "sh", "-c", "sleep 1; exit 5").ok()
    own_engine.stop()
    wait_for(lambda: not _runs(own_engine), 10, lambda: "it runs on")
    own_engine.start()
    shown = own_engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web").ok()
    assert shown == "exited 5"


def test_a_second_engine_is_refused(own_engine: Engine) -> None:
    second = subprocess.run(
        own_engine.command(), env=own_engine.environment(), capture_output=True, text=True, timeout=30
    )
    assert second.returncode == 1
    assert "another engine works in" in second.stderr
    assert own_engine.client.get("/_ping").status == 200


def test_hangup_reloads_labels(own_engine: Engine) -> None:
    with open(f"{own_engine.root}/daemon.json", "w") as file:
        file.write('{"labels": ["color=blue"]}')
    assert own_engine.process is not None
    own_engine.process.send_signal(signal.SIGHUP)
    wait_for(
        lambda: own_engine.client.get("/info").json()["Labels"] == ["color=blue"], 5, lambda: "no new labels"
    )


def _runs(engine: Engine) -> bool:
    return any("sleep" in line for line in engine.leftovers())
