"""No engine runs: ours is started on demand, or the message says so. In places of the test's own.

A mount namespace puts empty directories over the ones that the default engine uses, so that the machine's own
engine, if there is one, sees nothing of it.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import SKIFF, SOURCE, Engine
from tests.integration.own_network import Network

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="starts an engine as root")]

CANNOT = (
    "Cannot connect to the Docker daemon at unix:///run/skiff/skiff.sock. Is the docker daemon running?\n"
)
PRIVATE = """
mount --make-rprivate /
for directory in /run/skiff /var/lib/skiff /etc/skiff /var/log; do
  mkdir -p $directory && mount -t tmpfs none $directory
done
echo "{\\"cgroup-parent\\": \\"$1\\"}" > /etc/skiff/daemon.json
shift
"$@"
code=$?
exit $code
"""
PRIVATELY = ("unshare", "--mount", "sh", "-c", PRIVATE, "sh")


class Machine:
    """A shell script in namespaces where nothing of skiff is there yet."""

    def __init__(self, home: Path) -> None:
        self.network = Network()
        self.home = home
        self.group = f"/skiff-test-{uuid.uuid4().hex[:8]}"

    def run(self, script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """`skiff` is our command line in it. At its end the engine must have been stopped."""
        prelude = f'skiff() {{ {" ".join(SKIFF)} "$@"; }}\n'
        return subprocess.run(
            [*self.network.enter, *PRIVATELY, self.group, "sh", "-c", prelude + script],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "PYTHONPATH": str(SOURCE),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=100,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.network.close()


def test_an_engine_is_started_and_said_so_once(machine: Machine) -> None:
    done = machine.run(
        "skiff ps && skiff ps -q && skiff daemon status && skiff run --rm host echo hi; skiff daemon stop"
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("CONTAINER ID"), done
    assert lines[1].startswith("skiffd is running (pid ")
    assert lines[2] == "hi", done
    assert lines[3].startswith("stopped skiffd")
    assert done.stderr.count("skiff: started the engine (skiffd, pid ") == 1


def test_with_autostart_off_the_message_stands(machine: Machine) -> None:
    for environment in ({"SKIFF_AUTOSTART": "0"},):
        done = machine.run("skiff ps", **environment)
        assert (done.returncode, done.stderr) == (1, CANNOT)
    folder = machine.home / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text('{"features": {"skiff-autostart": "false"}}')
    done = machine.run("skiff images")
    assert (done.returncode, done.stderr) == (1, CANNOT)


def test_the_daemon_by_hand(machine: Machine) -> None:
    script = "skiff daemon status; echo $?; skiff daemon start; skiff daemon start"
    script += "; skiff info -f '{{.Containers}}'; skiff daemon stop; skiff daemon stop"
    done = machine.run(script)
    said = [line.split(" (pid")[0] for line in done.stdout.splitlines()]
    assert said == [
        "skiffd is not running",
        "3",
        "started skiffd",
        "skiffd is running already",
        "0",
        "stopped skiffd",
        "skiffd is not running",
    ], done


def test_a_stranger_is_told_about_the_group(engine: Engine) -> None:
    os.chmod(engine.root, 0o755)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = engine.run(*command, *SKIFF, "ps")
    assert done.code == 1
    words = "permission denied while trying to connect to the Docker daemon socket at unix://" + engine.socket
    assert words in done.err
    assert "usermod -a" in done.err


@pytest.mark.parametrize(
    "words", [("-m", "skiff.engine"), ("-m", "skiff.cli", "check")], ids=["skiffd", "check"]
)
def test_without_rights_a_sentence_says_so(words: tuple[str, ...], tmp_path: Path) -> None:
    less = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    places = (
        "--data-root",
        f"{tmp_path}/data",
        "--exec-root",
        f"{tmp_path}/run",
        "-H",
        f"unix://{tmp_path}/s",
    )
    done = subprocess.run(
        [*less, sys.executable, *words, *(places if "skiff.engine" in words else ())],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "CAP_SYS_ADMIN" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()
