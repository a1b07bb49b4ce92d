"""An engine of its own for tests: data, sockets, cgroups apart from any other, and nothing left behind.

Every process of it carries SKIFF_TEST in its environment or is in its cgroup: so leftovers are found.
The engine lives in a network namespace of its own, whose `lo` is all it has of a network: no test touches
the machine's. Namespace and engine end with the process that runs the tests, however that ends.
"""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from skiff.linux import trees
from tests.integration.client import Client
from tests.integration.own_network import PATIENCE, Network

SOURCE = Path(__file__).parents[2] / "src"
SKIFF = (str(Path(sys.executable).parent / "skiff"),)  # as it is installed
START_SECONDS = 20
LEAVE_SECONDS = 10


class Engine:
    """A skiffd that runs. `root` holds everything it writes; `network` is the host network it sees."""

    def __init__(self, *flags: str) -> None:
        self.root = tempfile.mkdtemp(prefix="sk", dir="/tmp")
        self.socket = f"{self.root}/s"
        self.cgroup = f"/skiff-test-{os.path.basename(self.root)}"
        self.flags = flags
        self.module = "skiff.engine"
        self.network = Network()
        self.client = Client(self.socket)
        self.process: subprocess.Popen[bytes] | None = None
        Path(self.root, "daemon.json").write_text("{}")

    def start(self) -> None:
        with open(f"{self.root}/log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.environment(), stderr=log, stdin=subprocess.DEVNULL
            )
        wait_for(self._answers, START_SECONDS, lambda: f"the engine does not answer:\n{self.log()}")

    def command(self) -> list[str]:
        return [
            *self.network.enter,
            *(sys.executable, "-m", self.module),
            *("--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/run"),
            *("-H", f"unix://{self.socket}", "--cgroup-parent", self.cgroup),
            *("--config-file", f"{self.root}/daemon.json"),
            *self.flags,
        ]

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(SOURCE),
            "SKIFF_TEST": self.root,
            "SKIFF_TEST_DIES": f"{self.root}/dies",
        }

    def stop(self) -> None:
        """SIGTERM, as a service manager would."""
        self._end(signal.SIGTERM)

    def crash(self) -> None:
        """SIGKILL: no time to tidy up."""
        self._end(signal.SIGKILL)

    def log(self) -> str:
        return Path(self.root, "log").read_text(errors="replace")

    def docker(self, *words: str, input: bytes | None = None, timeout: float = 60) -> "Run":
        """The stock client against this engine."""
        return self.run("docker", *words, input=input, timeout=timeout)

    def become_mortal(self) -> None:
        """Start anew as an engine that can be killed at a step: mortal.py."""
        self.stop()
        self.module = "tests.integration.mortal"
        self.start()

    def dies(self, steps: int, act: Callable[[], object]) -> bool:
        """Whether it was killed after so many steps of the act and the next runs; else there are fewer."""
        dies = Path(self.root, "dies")
        dies.write_text(str(steps))
        with contextlib.suppress(OSError, http.client.HTTPException):
            act()
        if dies.exists():
            dies.unlink()
            return False
        assert self.process is not None
        self.process.wait(30)
        self.start()
        return True

    def skiff(self, *words: str, input: bytes | None = None, timeout: float = 60) -> "Run":
        """Our own client against this engine."""
        return self.run(*SKIFF, *words, input=input, timeout=timeout)

    def run(self, *command: str, input: bytes | None = None, timeout: float = 60) -> "Run":
        """A program in the engine's host network, with the environment of a client."""
        done = subprocess.run(
            [*self.network.enter, *command],
            input=input,
            capture_output=True,
            timeout=timeout * PATIENCE,
            env=self.client_environment(),
        )
        return Run(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def client_environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": self.root,
            "DOCKER_HOST": f"unix://{self.socket}",
            "PYTHONPATH": str(SOURCE),
            "TZ": "UTC",
            "TERM": "xterm",
        }

    def close(self) -> None:
        """Remove every container, stop the engine, see that nothing is left; tidy up before complaining."""
        trouble: list[str] = []
        if self.process is not None and self.process.poll() is None:
            trouble += self.remove_containers()
            self.stop()
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not self.leftovers(), LEAVE_SECONDS, lambda: "")
        trouble += self.leftovers()
        log = self.log()
        self._sweep()
        self.network.close()
        assert not trouble, "\n".join(["left behind:", *trouble, log[-4000:]])
        assert "Traceback" not in log, log

    def leftovers(self) -> list[str]:
        """Processes, mounts and cgroups that are this engine's."""
        found = [f"process {pid}: {_command(pid)}" for pid in self.processes()]
        found += [f"mount {path}" for path in self.mounts()]
        found += [f"cgroup {path}" for directory in self._cgroups() for path in _below(directory)]
        return found

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return self.client.get("/_ping").status == 200
        except OSError:
            return False

    def _end(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait((LEAVE_SECONDS + 20) * PATIENCE)

    def remove_containers(self) -> list[str]:
        trouble = []
        try:
            for container in self.client.get("/containers/json", all=True).json():
                reply = self.client.delete(f"/containers/{container['Id']}", force=True, v=True)
                if reply.status not in (204, 404):
                    trouble.append(f"remove {container['Names']}: {reply.status} {reply.body!r}")
        except OSError as error:
            trouble.append(f"remove containers: {error}")
        return trouble

    def processes(self) -> list[int]:
        mark = f"SKIFF_TEST={self.root}".encode()
        found = set()
        for entry in os.listdir("/proc"):
            if entry.isdecimal() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                        found.add(int(entry))
        for directory in self._cgroups():
            for path, _, files in os.walk(directory):
                if "cgroup.procs" in files:
                    with contextlib.suppress(OSError):
                        found.update(int(pid) for pid in Path(path, "cgroup.procs").read_text().split())
        return sorted(found)

    def command_lines(self) -> list[int]:
        """Processes of the loaded command line: its server, and workers that wait or work."""
        mark = b"skiff.cli.preloaded"
        return [pid for pid in self.processes() if mark in _command(pid).encode()]

    def processes_called(self, name: str) -> list[int]:
        return [pid for pid in self.processes() if _command(pid).split()[:1] == [name]]

    def mounts(self) -> list[str]:
        table = Path("/proc/self/mountinfo").read_text(errors="replace")
        points = [line.split(" ", 5)[4] for line in table.splitlines()]
        return [point for point in points if point.startswith(self.root + "/")]

    def _cgroups(self) -> Iterator[str]:
        base = "/sys/fs/cgroup"
        for directory in [base, *(f"{base}/{name}" for name in os.listdir(base))]:
            path = directory + self.cgroup
            if os.path.isdir(path) and not os.path.islink(directory):
                yield path

    def _sweep(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):  # the killed need a moment to leave their cgroups
            wait_for(lambda: not self.processes(), LEAVE_SECONDS, lambda: "")
        for point in reversed(self.mounts()):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        for directory in list(self._cgroups()):
            for path, _, _ in os.walk(directory, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        with contextlib.suppress(OSError):
            trees.remove(self.root)


class Run:
    """What a command said. code: its exit status."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def ok(self) -> str:
        """Its output, without the last newline; it must have succeeded."""
        assert self.code == 0, self
        return self.out.rstrip("\n")

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


def wait_for(condition: Callable[[], Any], seconds: float, complaint: Callable[[], str]) -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + seconds * PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(complaint())
        time.sleep(0.02)
    return value


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return "?"


def _below(directory: str) -> list[str]:
    """Groups below the engine's own. The parent itself may stay: the next engine uses it again."""
    return [path for path, _, _ in os.walk(directory) if path != directory]
