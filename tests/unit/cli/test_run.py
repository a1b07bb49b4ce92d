"""run, create, start, exec, attach, logs, wait as whole programs, against a fake engine."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.fake_engine import FakeEngine, Reply, Request, frame, upgrade

SRC = Path(__file__).parents[3] / "src"
SKIFF = [sys.executable, "-IS", str(SRC / "skiff/cli/__main__.py")]
FORBIDDEN = {
    "json", "re", "argparse", "socket", "subprocess", "typing", "enum", "dataclasses", "ctypes", "selectors",
    "logging", "msgspec", "asyncio", "http", "ssl",
}  # fmt: skip


class World:
    """A fake engine with one container whose output, exit code and image a test settles."""

    def __init__(self, engine: FakeEngine, home: Path) -> None:
        self.engine = engine
        self.home = home
        self.output = [frame(1, b"hi\n")]
        self.code = 0
        self.tty = False
        self.has_image = True
        self.absent = "No such image: busybox:latest"
        self.start_error = ""
        self.echo = False
        self.stdin = b""
        self.killed: list[str] = []
        self.sizes: list[tuple[str, str]] = []
        self._started = threading.Event()
        self._ended = threading.Event()
        self.ready = threading.Event()
        engine.route("POST /containers/create")(self.create)
        engine.route("POST /containers/[^/]+/attach")(self.attach)
        engine.route("POST /containers/[^/]+/wait")(self.wait)
        engine.route("POST /containers/[^/]+/start")(self.start)
        engine.route("POST /containers/[^/]+/kill")(self.kill)
        engine.route("POST /containers/[^/]+/resize")(self.resize)
        engine.route("POST /images/create")(self.pull)
        engine.route("GET /containers/[^/]+/json")(self.inspect)

    def run(self, *argv: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*SKIFF, "-H", self.engine.url, *argv],
            input=stdin,
            capture_output=True,
            env=self.env(**env),
            timeout=30,
        )

    def env(self, **more: str) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], **more}

    def create(self, request: Request) -> Reply:
        if not self.has_image:
            return Reply(404, {"message": self.absent})
        return Reply(201, {"Id": "c1" * 32, "Warnings": ["be careful"]})

    def attach(self, request: Request) -> None:
        upgrade(request, f"application/vnd.docker.{'raw' if self.tty else 'multiplexed'}-stream")
        self._started.wait(20)
        for data in self.output:
            request.sock.sendall(data)
        self.ready.set()
        if "stdin" in request.query and not self.tty:
            while data := request.reader.read1(1 << 16):  # type: ignore[attr-defined]
                self.stdin += data
                if self.echo:
                    request.sock.sendall(frame(1, data))
        elif self.tty:
            while (data := request.sock.recv(1000)) not in (b"", b"\x04"):
                request.sock.sendall(b"<" + data + b">")
        if self.killed is not None and self.code == 143:
            self._ended.wait(20)
        self._ended.set()

    def wait(self, request: Request) -> Reply | None:
        body = b'{"StatusCode": %d}' % self.code
        request.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        while not self._ended.wait(0.05):
            if self.start_error:
                break
        request.sock.sendall(body)
        return None

    def start(self, request: Request) -> Reply:
        if self.start_error:
            return Reply(400, {"message": self.start_error})
        self._started.set()
        return Reply(204)

    def kill(self, request: Request) -> Reply:
        self.killed += request.query["signal"]
        self._ended.set()
        return Reply(204)

    def resize(self, request: Request) -> Reply:
        self.sizes.append((request.query["h"][0], request.query["w"][0]))
        return Reply(200)

    def pull(self, request: Request) -> Reply:
        self.has_image = True
        status = b'{"status":"Pulling from library/busybox","id":"latest"}\n{"status":"Status: Downloaded"}\n'
        return Reply(chunks=[status])

    def inspect(self, request: Request) -> Reply:
        state = {"Running": True, "Paused": False, "Restarting": False}
        config = {"Tty": self.tty, "OpenStdin": False}
        return Reply(body={"Id": "c1" * 32, "State": state, "Config": config})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeEngine(str(tmp_path / "e.sock")) as engine:
        yield World(engine, tmp_path)


def test_run_shows_both_streams_and_ends_with_the_containers_code(world: World) -> None:
    world.output, world.code = [frame(1, b"out\n") + frame(2, b"err\n")[:5], frame(2, b"err\n")[5:]], 7
    done = world.run("run", "busybox", "true")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"WARNING: be careful\nerr\n", 7)


def test_run_attaches_and_waits_before_it_starts(world: World) -> None:
    world.run("run", "--rm", "busybox", "true")
    words = [path.rpartition("/")[2] for path in world.engine.paths()]
    assert words == ["create", "wait", "attach", "start"]
    assert world.engine.requests[1].query["condition"] == ["removed"]


def test_run_pulls_what_is_missing(world: World) -> None:
    world.has_image = False
    done = world.run("run", "busybox", "true")
    assert done.stdout == b"hi\n"
    assert done.stderr.decode().splitlines()[:3] == [
        "Unable to find image 'busybox:latest' locally",
        "latest: Pulling from library/busybox",
        "Status: Downloaded",
    ]
    pulled = next(request for request in world.engine.requests if request.path == "/images/create")
    assert pulled.query == {"fromImage": ["busybox"], "tag": ["latest"]}
    assert pulled.headers["x-registry-auth"] == "e30="


def test_run_pulls_what_is_of_another_platform(world: World) -> None:
    world.has_image = False
    world.absent = (
        "image with reference busybox was found but its platform (linux/amd64)"
        " does not match the specified platform (linux/arm64)"
    )
    done = world.run("run", "--platform", "linux/arm64", "busybox", "true")
    assert done.stdout == b"hi\n"
    assert done.stderr.startswith(b"Unable to find image 'busybox:latest' locally\n")
    pulled = next(request for request in world.engine.requests if request.path == "/images/create")
    assert pulled.query["platform"] == ["linux/arm64"]


def test_run_never_pulls_when_told_so(world: World) -> None:
    world.has_image = False
    done = world.run("run", "--pull=never", "busybox")
    assert done.returncode == 125
    assert (
        b"skiff: Error response from daemon: No such image: busybox:latest\n\nRun 'skiff run --help'"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ("stat /x: no such file or directory", 127),
        ("exec: /etc: permission denied", 126),
        ("no space left", 125),
    ],
)
def test_a_failed_start_says_why(world: World, words: str, code: int) -> None:
    world.start_error = words
    done = world.run("run", "--rm", "busybox", "x")
    assert done.returncode == code
    assert f"skiff: Error response from daemon: {words}" in done.stderr.decode()


def test_input_is_passed_on_to_its_end(world: World) -> None:
    world.echo, world.output = True, []
    data = os.urandom(3_000_000)
    done = world.run("run", "-i", "busybox", "cat", stdin=data)
    assert done.stdout == data


def test_detached_prints_the_id(world: World) -> None:
    done = world.run("run", "-d", "busybox")
    assert (done.stdout.decode(), done.returncode) == ("c1" * 32 + "\n", 0)


def test_create_prints_the_id_and_writes_it(world: World, tmp_path: Path) -> None:
    done = world.run("create", "--cidfile", str(tmp_path / "cid"), "busybox")
    assert done.stdout.decode().strip() == "c1" * 32 == (tmp_path / "cid").read_text()
    again = world.run("create", "--cidfile", str(tmp_path / "cid"), "busybox")
    assert again.returncode == 1 and again.stderr.startswith(b"container ID file found")


def test_signals_go_to_the_container(world: World) -> None:
    world.code = 143
    with subprocess.Popen([*SKIFF, "-H", world.engine.url, "run", "busybox"], env=world.env()) as process:
        assert world.ready.wait(20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert world.killed == ["SIGTERM"]


def in_a_terminal(world: World, *argv: str) -> tuple[int, int]:
    """(pid, the master side)."""
    pid, master = pty.fork()
    if pid == 0:
        os.execve(SKIFF[0], [*SKIFF, "-H", world.engine.url, *argv], world.env())
    return pid, master


def read_until(fd: int, text: bytes) -> bytes:
    said = b""
    while text not in said:
        said += os.read(fd, 1000)
    return said


def test_a_terminal_is_raw_and_resized(world: World) -> None:
    world.tty, world.output, world.code = True, [b"prompt$ "], 3
    pid, master = in_a_terminal(world, "run", "-it", "busybox")
    import fcntl
    import struct
    import termios

    read_until(master, b"prompt$ ")
    assert not termios.tcgetattr(master)[3] & termios.ECHO
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    deadline = time.monotonic() + 10
    while ("33", "99") not in world.sizes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ("33", "99") in world.sizes
    os.write(master, b"\x03")
    assert b"<\x03>" in read_until(master, b">")
    os.write(master, b"\x04")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    os.close(master)


def test_the_detach_keys_leave_the_container_alone(world: World) -> None:
    world.tty, world.output = True, [b"$ "]
    pid, master = in_a_terminal(world, "run", "-it", "busybox")
    read_until(master, b"$ ")
    os.write(master, b"\x10")
    os.write(master, b"\x11")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(master)


def test_logs(world: World) -> None:
    kind = {"Content-Type": "application/vnd.docker.multiplexed-stream"}
    world.engine.route("GET /containers/web/logs")(
        lambda _: Reply(chunks=[frame(1, b"a\n"), frame(2, b"b\n")], headers=kind)
    )
    done = world.run("logs", "--tail", "5", "-t", "--since", "2020-01-01T00:00:00Z", "web")
    assert (done.stdout, done.stderr) == (b"a\n", b"b\n")
    query = world.engine.requests[0].query
    assert (query["tail"], query["timestamps"], query["since"]) == (["5"], ["1"], ["1577836800.000000000"])


def test_exec(world: World) -> None:
    def start(request: Request) -> None:
        upgrade(request)
        request.sock.sendall(frame(1, b"in it\n"))

    world.engine.route("POST /containers/web/exec")(lambda _: Reply(201, {"Id": "e1"}))
    world.engine.route("POST /exec/e1/start")(start)
    world.engine.route("GET /exec/e1/json")(lambda _: Reply(body={"ExitCode": 4}))
    done = world.run("exec", "-e", "A=1", "web", "ls", "-l")
    assert (done.stdout, done.returncode) == (b"in it\n", 4)
    assert world.engine.requests[0].json["Cmd"] == ["ls", "-l"]


def test_start_names_what_it_started(world: World) -> None:
    done = world.run("start", "web", "db")
    assert (done.stdout, done.returncode) == (b"web\ndb\n", 0)
    world.start_error = "No such container: web"
    done = world.run("start", "web")
    assert done.returncode == 1
    assert done.stderr.endswith(b"Error: failed to start containers: web\n")


RUN_USAGE = "Usage:  skiff run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n"
RUN_MORE = "Run 'skiff run --help' for more information\n"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["run", "--foo"], 125, f"unknown flag: --foo\n\n{RUN_USAGE}{RUN_MORE}"),
        (
            ["run"],
            1,
            f"skiff: 'skiff run' requires at least 1 argument\n\n{RUN_USAGE}"
            "See 'skiff run --help' for more information\n",
        ),
        (
            ["logs"],
            1,
            "skiff: 'skiff logs' requires 1 argument\n\nUsage:  skiff logs [OPTIONS] CONTAINER\n\n"
            "Run 'skiff logs --help' for more information\n",
        ),
        (
            ["--foo"],
            125,
            "unknown flag: --foo\n\nUsage:  skiff [OPTIONS] COMMAND [ARG...]\n\n"
            "Run 'skiff --help' for more information\n",
        ),
        (
            ["runn"],
            1,
            "skiff: unknown command: skiff runn\n\nDid you mean this?\n\trun\n\n"
            "Run 'skiff --help' for more information\n",
        ),
        (["run", "-it", "x"], 1, "the input device is not a TTY\n"),
        (["run", "-p", "abc", "x"], 125, f"skiff: invalid containerPort: abc\n\n{RUN_MORE}"),
    ],
)
def test_complaints(world: World, argv: list[str], code: int, words: str) -> None:
    done = world.run(*argv)
    assert (done.stderr.decode(), done.returncode) == (words, code)


@pytest.mark.parametrize(
    "argv", [["run", "busybox"], ["exec", "web", "ls"], ["version"], ["ps"], ["logs", "web"]]
)
def test_the_hot_paths_import_nothing_heavy(world: World, argv: list[str]) -> None:
    for line in ("GET /version", "GET /containers/json", "POST /containers/web/exec"):
        world.engine.route(line)(lambda _: Reply(500, {"message": "no"}))
    program = (
        f"import sys; sys.path.insert(0, {str(SRC)!r}); from skiff.cli.main import main; "
        f"main({['-H', world.engine.url, *argv]!r}); sys.stderr.write('\\n' + ' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program], capture_output=True, env=world.env(), timeout=30
    )
    loaded = set(done.stderr.decode().splitlines()[-1].split())
    assert "skiff.cli.main" in loaded
    assert not loaded & FORBIDDEN
