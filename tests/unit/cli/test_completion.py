"""Candidates at a tab; and real shells, asked with keys."""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.fake_engine import FakeEngine, Reply, Request

from skiff.cli.completing import complete
from skiff.cli.completion import SCRIPTS
from skiff.cli.completion_kinds import ARGUMENTS, FILTERS, FLAG_VALUES, WORDS
from skiff.cli.completion_names import _ANSWERS
from skiff.cli.main import CANONICAL, load
from skiff.errors import NotImplementedHere

MAIN = Path(__file__).parents[3] / "src/skiff/cli/__main__.py"
NAMES = {
    "containers": ["db", "web"],
    "running": ["web"],
    "stopped": ["db"],
    "images": ["busybox", "nginx:1.27"],
    "networks": ["bridge", "shop"],
    "volumes": ["data"],
    "container-volumes": ["data:"],
    "container-paths": ["web:", "web:/bin/", "web:/boot/"],
    "repositories": ["busybox"],
    "environment": ["HOME", "HOSTNAME"],
    "snapshots web": ["before", "after"],
    "capabilities": ["SYS_ADMIN", "SYS_TIME"],
}


def at(*words: str) -> list[str]:
    return [
        word
        for word, _ in complete(words, lambda kind, typed: [(n, "") for n in NAMES.get(kind, ())]).candidates
    ]


def files(*words: str) -> str:
    return complete(words, lambda kind, typed: ()).files


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["vol"], ["volume"]),
        (["volume", "cr"], ["create"]),
        (["--debug", "volume", "cr"], ["create"]),
        (["-H", "tcp://a", "sto"], ["stop"]),
        (["--tlsv"], ["--tlsverify"]),
        (["--log-level", "w"], ["warn"]),
        (["-l", "w"], ["warn"]),
        (["ps", "--no"], ["--no-trunc"]),
        (["container", "ls", "--no"], ["--no-trunc"]),
        (["stop", ""], ["web"]),
        (["stop", "web", ""], []),
        (["start", ""], ["db"]),
        (["container", "rm", ""], ["db", "web"]),
        (["rm", "-f", ""], ["db", "web"]),
        (["rm", "-f", "db", ""], ["web"]),
        (["-H", "tcp://a", "rm", "db", ""], ["web"]),
        (["run", ""], ["busybox", "nginx:1.27"]),
        (["run", "nginx:"], ["nginx:1.27"]),
        (["run", "--network", "s"], ["shop"]),
        (["run", "--network", "h"], ["host"]),
        (["run", "--network=sh"], ["--network=shop"]),
        (["run", "-it", "--name", "x", "--network", "con"], ["container:"]),
        (["run", "--rm", "-e", "HO"], ["HOME", "HOSTNAME"]),
        (["run", "-eHO"], []),
        (["run", "-v", "d"], ["data:"]),
        (["run", "--pull", ""], ["always", "missing", "never"]),
        (["run", "--rm="], ["--rm=false", "--rm=true"]),
        (["run", "--cap-add", "SYS_T"], ["SYS_TIME"]),
        (["run", "-m", ""], []),
        (["run", "-itm", ""], []),
        (["run", "-itm", "64m", "bus"], ["busybox"]),
        (["run", "busybox", ""], []),
        (["run", "busybox", "--ne"], []),
        (["exec", "-it", "w"], ["web"]),
        (["exec", "web", "--us"], []),
        (["cp", "web:/b"], ["web:/bin/", "web:/boot/"]),
        (["cp", "web:/bin/", "w"], ["web:", "web:/boot/"]),
        (["network", "connect", "s"], ["shop"]),
        (["network", "connect", "shop", ""], ["db", "web"]),
        (["ps", "--filter", "sta"], ["status="]),
        (["ps", "-f", "status=e"], ["status=exited"]),
        (["ps", "--filter=network=s"], ["--filter=network=shop"]),
        (["inspect", "--type", "v"], ["volume"]),
        (["inspect", ""], ["bridge", "busybox", "data", "db", "nginx:1.27", "shop", "web"]),
        (["explain", "stop", ""], ["web"]),
        (["explain", "--ch"], ["--chrome"]),
        (["completion", "z"], ["zsh"]),
        (["rollback", "web", ""], ["after", "before"]),
        (["help", "volume", "cr"], ["create"]),
        (["rm", "--", ""], ["db", "web"]),
        (["nonsense", ""], []),
        (["ps", "--nonsense", ""], []),
        (["ps", "--nonsense="], []),
    ],
    ids=" ".join,
)
def test_candidates(words: list[str], found: list[str]) -> None:
    assert at(*words) == found


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["load", "-i", ""], "files"),
        (["load", "--input="], "files"),
        (["build", ""], "directories"),
        (["build", "-f", ""], "files"),
        (["cp", ""], "files"),
        (["cp", "web:/b"], ""),
        (["run", "-v", ""], "files"),
        (["run", "-v", "/srv:"], ""),
        (["ps", ""], ""),
    ],
    ids=" ".join,
)
def test_where_the_shell_knows_files(words: list[str], known: str) -> None:
    assert files(*words) == known


def test_everything_at_the_top_is_offered_and_described() -> None:
    found = dict(complete([""], lambda kind, typed: ()).candidates)
    assert {"run", "ps", "volume", "network", "help", "explain"} <= set(found)
    assert all(found.values())


def test_every_flag_of_every_command_is_offered() -> None:
    for _, spellings in CANONICAL.values():
        try:
            command = load(spellings[0])
        except NotImplementedHere:
            continue
        shown = {f"--{flag[0]}" for flag in command.flags if flag[4]}
        assert set(at(*spellings[0].split(), "--")) == shown | {"--help"}


def test_the_tables_speak_of_what_there_is() -> None:
    kinds = {kind for places in ARGUMENTS.values() for place in places for kind in place}
    kinds |= {kind for values in FLAG_VALUES.values() for kind in values}
    kinds |= {kind for filters in FILTERS.values() for values in filters.values() for kind in values}
    known = {"files", "directories", *WORDS, *_ANSWERS}
    assert {kind for kind in kinds if not kind.startswith("=")} <= known
    assert ARGUMENTS.keys() | FILTERS.keys() <= CANONICAL.keys()


# -- as a program, and in the shells ---------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory with an engine that listens, and a `skiff` for the shells."""
    with FakeEngine(str(tmp_path / "e.sock")) as engine:

        @engine.route("GET /containers/json")
        def containers(request: Request) -> Reply:
            found = [
                {"Names": ["/web"], "Image": "nginx", "State": "running", "Status": "Up"},
                {"Names": ["/db"], "Image": "postgres", "State": "exited", "Status": "Exited"},
            ]
            return Reply(body=found if request.query.get("all") else found[:1])

        @engine.route("GET /images/json")
        def images(request: Request) -> Reply:
            tags = ["nginx:1.27", "busybox:latest", "<none>:<none>"]
            return Reply(body=[{"RepoTags": [tag], "Size": 1000} for tag in tags])

        engine.route("GET /networks")(lambda _: Reply(body=[{"Name": "shop", "Driver": "bridge"}]))
        engine.route("GET /volumes")(lambda _: Reply(body={"Volumes": [{"Name": "data", "Driver": "local"}]}))
        engine.route("GET /skiff/containers/web/names")(lambda _: Reply(body={"Names": ["etc/", "exports"]}))
        program = tmp_path / "bin/skiff"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {MAIN} "$@"\n')
        program.chmod(0o755)
        (tmp_path / "archive.tar").touch()
        yield tmp_path


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "HOME": str(home),
        "DOCKER_HOST": f"unix://{home}/e.sock",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def test_the_answer_has_what_it_is_about_and_a_last_line(home: Path) -> None:
    def asked(*words: str) -> list[str]:
        done = subprocess.run(
            ["skiff", "completion", "words", "--", *words],
            env=environment(home),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    assert asked("stop", "") == ["web\tnginx, Up", ":"]
    assert asked("start", "") == ["db\tpostgres, Exited", ":"]
    assert asked("run", "busybox") == ["busybox\t1kB", ":"]
    assert asked("run", "busybox:") == ["busybox:latest\t1kB", ":"]
    assert asked("cp", "web:/e") == ["web:/etc/", "web:/exports", ":"]
    assert asked("-H", f"unix://{home}/nobody.sock", "stop", "") == [":"]


class Terminal:
    """A shell on a pseudo-terminal."""

    def __init__(self, home: Path, *command: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            os.execvpe(command[0], command, environment(home))
        self.said = ""

    def until(self, pattern: str, seconds: float = 20) -> str:
        """Read on until the pattern is there; all that came since the last `type`."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.plain()):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} did not come: {self.plain()!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.said += os.read(self.fd, 4096).decode(errors="replace")
        return self.plain()

    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r|\x07", "", self.said)

    def type(self, keys: str) -> None:
        self.said = ""
        os.write(self.fd, keys.encode())

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


TYPED = [
    ("skiff volu", "skiff volume "),
    ("skiff sto", "skiff stop "),
    ("skiff ps --no-t", "skiff ps --no-trunc "),
    ("skiff stop w", "skiff stop web "),
    ("skiff rm -f d", "skiff rm -f db "),
    ("skiff run --network s", "skiff run --network shop "),
    ("skiff run --network=s", "skiff run --network=shop "),
    ("skiff run nginx:1", "skiff run nginx:1.27 "),
    ("skiff run -v d", "skiff run -v data:"),
    ("skiff cp web:/ex", "skiff cp web:/exports "),
    ("skiff cp web:/et", "skiff cp web:/etc/"),
    ("skiff load -i arc", "skiff load -i archive.tar "),
    ("skiff run --restart on-f", "skiff run --restart on-failure"),
]


def shell(home: Path, name: str) -> Terminal:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    if name == "bash":
        (home / "rc").write_text(f"PS1='READY> '\nbind 'set enable-bracketed-paste off'\n{SCRIPTS['bash']}")
        return Terminal(home, "bash", "--noprofile", "--rcfile", f"{home}/rc", "-i")
    (home / ".zshrc").write_text(
        f"PS1='READY> '\nunsetopt zle_bracketed_paste\nautoload -U compinit\ncompinit -u -D\n{SCRIPTS['zsh']}"
    )
    return Terminal(home, "zsh", "-d", "-i")


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_real_shell_completes(home: Path, name: str) -> None:
    terminal = shell(home, name)
    try:
        terminal.until("READY> ")
        for typed, completed in TYPED:
            terminal.type(f"{typed}\t")
            terminal.until(re.escape(completed))
            terminal.type("\x15\r")
            terminal.until("READY> ")
    finally:
        terminal.close()


def test_fish_completes(home: Path) -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    for typed, completed in TYPED:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"{SCRIPTS['fish']}\ncomplete -C '{typed}'"],
            env=environment(home),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
        )
        words = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        wanted = completed.strip().rpartition(" ")[2]
        assert any(word in (wanted, wanted.partition("=")[2]) for word in words), (
            typed,
            done.stdout,
            done.stderr,
        )


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_parse(name: str) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    subprocess.run([name, "-n"], input=SCRIPTS[name], text=True, check=True)
