"""skiff why: examples of records, events and last words, and what is said of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.fake_engine import FakeEngine, Reply, frame

from skiff.cli.case import Case
from skiff.cli.reasons import afterwards, headline, why
from skiff.cli.why import page

PROGRAM = str(Path(__file__).parents[3] / "src/skiff/cli/__main__.py")
INIT = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create "
    "failed: unable to start container process: error during container init: "
)
NOW = 1_750_000_000


def found(status: str, code: int = 0, *command: str, **others: Any) -> dict[str, Any]:
    state = {
        "Status": status,
        "ExitCode": code,
        "FinishedAt": "2025-06-15T15:00:00Z",
        **others.pop("State", {}),
    }
    words = command or ("app", "serve")
    return {
        "Id": "d6f5fd6a2f1a" + "0" * 52,
        "Name": "/web",
        "Path": words[0],
        "Args": list(words[1:]),
        "Image": "sha256:1",
        "State": state,
        "HostConfig": others.pop("HostConfig", {}),
        "Config": {"Image": "shop:1", **others.pop("Config", {})},
        **others,
    }


def event(action: str, at: int = NOW, **attributes: str) -> dict[str, Any]:
    return {
        "Action": action,
        "time": at,
        "Actor": {"ID": "d6f5", "Attributes": {"name": "web", **attributes}},
    }


def killed(*signals: int, after: str = "") -> list[dict[str, Any]]:
    acts = [event("create"), event("start")]
    acts += [event("kill", NOW + 10 * number, signal=str(n)) for number, n in enumerate(signals)]
    return [*acts, event("die"), *([event(after)] if after else [])]


@pytest.mark.parametrize(
    ("case", "says", "do"),
    [
        (Case(found("created")), "nobody has started it yet", "skiff start web"),
        (
            Case(
                found(
                    "created",
                    127,
                    State={"Error": f'{INIT}exec: "nosuch": executable file not found in $PATH'},
                )
            ),
            "no program 'nosuch'",
            "--entrypoint ls shop:1",
        ),
        (
            Case(
                found(
                    "created",
                    127,
                    State={"Error": f'{INIT}exec: "echo hi": executable file not found in $PATH'},
                )
            ),
            "the whole line was taken as one name",
            'CMD ["echo", "hi"]',
        ),
        (
            Case(
                found(
                    "created",
                    127,
                    State={"Error": f'{INIT}exec: "/x/y": stat /x/y: no such file or directory'},
                )
            ),
            "has no file /x/y",
            "ls shop:1 /x",
        ),
        (
            Case(found("created", 126, State={"Error": f'{INIT}exec: "/app.sh": permission denied'})),
            "nobody may execute it",
            "--chmod=755",
        ),
        (
            Case(
                found(
                    "created", 126, State={"Error": f'{INIT}exec: "/etc": is a directory: permission denied'}
                )
            ),
            "/etc is a directory",
            "Name the program in it",
        ),
        (
            Case(
                found(
                    "created",
                    128,
                    State={
                        "Error": "failed to set up container networking: driver failed programming external "
                        "connectivity on endpoint web (1): Bind for 127.0.0.1:8081 failed: "
                        "port is already allocated"
                    },
                )
            ),
            "port 127.0.0.1:8081 is taken",
            "publish=8081",
        ),
        (
            Case(found("created", 137, State={"Error": "cannot start a stopped process"})),
            "killed after it had been made and before it began",
            "dmesg",
        ),
        (
            Case(
                found(
                    "created",
                    128,
                    State={"Error": "unable to find user app: no matching entries in passwd file"},
                    Config={"User": "app"},
                )
            ),
            "does not know the user or group app",
            "--user 1000:1000",
        ),
        (
            Case(found("created", 128, State={"Error": "mount /a to /b: Not a directory: /b"})),
            "mounts could not be made: mount /a to /b",
            "over a directory",
        ),
        (
            Case(found("created", 128, State={"Error": "something new"})),
            "could not be started: something new",
            "start",
        ),
        (
            Case(found("exited", 137, State={"OOMKilled": True}, HostConfig={"Memory": 64 << 20})),
            "more memory than its limit of 64m",
            "--memory 128m",
        ),
        (
            Case(found("exited", 137, State={"OOMKilled": True})),
            "what the machine had left",
            "limit (--memory)",
        ),
        (
            Case(found("exited", 137), killed(15, 9, after="stop")),
            "did not end on SIGTERM within 10 s",
            "--init",
        ),
        (
            Case(found("exited", 143), killed(15, after="stop")),
            "Somebody stopped it (SIGTERM)",
            "skiff start web",
        ),
        (Case(found("exited", 0), killed(3, after="stop")), "Somebody stopped it (SIGQUIT)", "skiff start"),
        (Case(found("exited", 137), killed(9)), "Somebody sent it SIGKILL (skiff kill)", "skiff start web"),
        (Case(found("exited", 137), killed()), "not through this engine", "dmesg"),
        # what came before the latest start does not count
        (
            Case(found("exited", 139), [*killed(15, after="stop"), event("start"), event("die")]),
            "memory that is not its own (SIGSEGV)",
            "--ulimit core=-1",
        ),
        (Case(found("exited", 132)), "processor does not have (SIGILL)", "x86-64-v2"),
        (Case(found("exited", 134)), "SIGABRT", "last words"),
        (Case(found("exited", 159)), "its filter forbids", "seccomp"),
        (Case(found("exited", 143)), "SIGTERM", ""),
        (
            Case(
                found("exited", 255, "/app"),
                words=["exec /app: exec format error"],
                built_for="arm64",
                machine="amd64",
            ),
            "image is for arm64, this machine is amd64",
            "--platform linux/amd64 shop:1",
        ),
        (
            Case(
                found("exited", 255, "/app"),
                words=["exec /app: exec format error"],
                built_for="amd64",
                machine="amd64",
            ),
            "does not know what /app is",
            "#!/bin/sh",
        ),
        (
            Case(found("exited", 255, "/run.sh"), words=["exec /run.sh: no such file or directory"]),
            "what should run it is not",
            "Windows line ends",
        ),
        (Case(found("exited", 255)), "Nobody saw it end", "unless-stopped"),
        (
            Case(found("exited", 127, "sh", "-c", "x"), words=["sh: x: not found"]),
            "command: sh: x: not found",
            "Install",
        ),
        (
            Case(found("exited", 126, "sh", "-c", "x"), words=["sh: x: Permission denied"]),
            "may not run",
            "chmod +x",
        ),
        (Case(found("exited", 0, "sh")), "nobody to type", "-it"),
        (Case(found("exited", 0, "sh", Config={"Tty": True, "OpenStdin": True})), "left it", "start -ai web"),
        (Case(found("exited", 0, "nginx")), "put the service into the background", "daemon off"),
        (Case(found("exited", 0, "app", "once")), "(app once) has done its work", "skiff start web"),
        (
            Case(found("exited", 1), words=["bind: Address already in use"]),
            "Address already in use",
            "elsewhere",
        ),
        (Case(found("exited", 1), words=["write: No space left on device", "bye"]), "disk is full", "prune"),
        (Case(found("exited", 1), words=["open /x: permission denied"]), "may not open a file", "ls -ln"),
        (
            Case(found("exited", 1), words=["dial tcp 1.2.3.4: connection refused"]),
            "does not listen",
            "localhost",
        ),
        (Case(found("exited", 1), words=["bad address 'db'"]), "a name that nobody knows", "network create"),
        (
            Case(found("exited", 1), words=["ModuleNotFoundError: No module named 'x'"]),
            "not in its image",
            "shop:1",
        ),
        (
            Case(found("exited", 3), words=["one", "I give up", ""]),
            "Its last words: I give up",
            "skiff logs web",
        ),
        (Case(found("exited", 3)), "said nothing", "skiff commit web"),
        (Case(found("dead", 3)), "said nothing", "skiff commit web"),
        (Case(found("paused")), "Somebody paused it", "skiff unpause web"),
        (Case(found("running")), "It runs.", ""),
        (Case(found("running", RestartCount=1)), "again 1 time by its restart policy", "skiff logs web"),
        (
            Case(
                found(
                    "running",
                    State={
                        "Health": {
                            "Status": "unhealthy",
                            "FailingStreak": 3,
                            "Log": [{"ExitCode": 1, "Output": "checking\ncurl: (7) refused\n"}],
                        }
                    },
                    Config={"Healthcheck": {"Test": ["CMD-SHELL", "curl -f localhost"]}},
                )
            ),
            "failed 3 times in a row; the last time with code 1: curl: (7) refused",
            "skiff exec web sh -c 'curl -f localhost'",
        ),
        (
            Case(
                found(
                    "restarting",
                    1,
                    RestartCount=4,
                    HostConfig={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 9}},
                ),
                words=["I give up"],
            ),
            "restart policy (on-failure:9) starts it again: 4 times so far",
            "skiff update --restart=no web",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason(case: Case, says: str, do: str) -> None:
    reason = why(case)
    assert says in reason.says
    assert do in "\n".join(reason.do)


@pytest.mark.parametrize(
    ("status", "code", "policy", "acts", "says"),
    [
        ("exited", 1, "no", [], "It is not started again"),
        ("exited", 0, "no", [], ""),
        ("exited", 0, "on-failure", [], "because it ended with 0"),
        ("exited", 1, "on-failure", [], "has given up"),
        ("exited", 137, "always", killed(15, 9, after="stop"), "because somebody stopped it"),
        ("running", 0, "always", [], ""),
    ],
)
def test_what_the_restart_policy_makes_of_it(
    status: str, code: int, policy: str, acts: list[dict[str, Any]], says: str
) -> None:
    case = Case(found(status, code, HostConfig={"RestartPolicy": {"Name": policy}}), acts)
    assert says in afterwards(case) if says else afterwards(case) == ""


@pytest.mark.parametrize(
    ("case", "line"),
    [
        (Case(found("exited", 137)), "web exited 2 minutes ago with code 137 (SIGKILL)."),
        (Case(found("exited", 3)), "web exited 2 minutes ago with code 3."),
        (Case(found("restarting", 3)), "web is restarting; it ended 2 minutes ago with code 3."),
        (Case(found("running")), "web is running."),
        (Case(found("created", 127, State={"Error": "x"})), "web could not be started (code 127)."),
    ],
)
def test_the_headline(case: Case, line: str) -> None:
    assert headline(case, "2 minutes ago") == line


@given(
    st.sampled_from(["created", "running", "paused", "restarting", "removing", "exited", "dead"]),
    st.integers(0, 255),
    st.text(max_size=60),
    st.lists(st.text(max_size=60), max_size=3),
    st.booleans(),
)
def test_something_is_said_of_everything(
    status: str, code: int, error: str, words: list[str], oom: bool
) -> None:
    case = Case(found(status, code, State={"Error": error, "OOMKilled": oom}), killed(15, 9), words)
    reason = why(case)
    assert reason.says
    lines = list(page(case, reason, now=NOW, columns=40))
    assert all(line.endswith("\n") for line in lines)


def test_the_page_and_the_command(tmp_path: Path) -> None:
    case = found("exited", 3)
    with FakeEngine(str(tmp_path / "e.sock")) as engine:
        engine.route("GET /containers/web/json")(lambda request: Reply(200, case))
        engine.route("GET /containers/.+/logs")(
            lambda request: Reply(200, frame(1, b"working\n") + frame(2, b"\x1b[31mgiving up\n"))
        )
        engine.route("GET /images/.+/json")(lambda request: Reply(200, {"Architecture": "amd64"}))
        engine.route("GET /version")(lambda request: Reply(200, {"Arch": "amd64"}))
        lines = [event("start"), event("exec_create: ls"), event("die", exitCode="3", execDuration="7")]
        engine.route("GET /events")(
            lambda request: Reply(200, chunks=[json.dumps(line).encode() + b"\n" for line in lines])
        )
        done = subprocess.run(
            [sys.executable, "-IS", PROGRAM, "why", "web"],
            env={"DOCKER_HOST": engine.url, "PATH": os.environ["PATH"], "TZ": "UTC"},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.stderr == ""
    first, _, rest = done.stdout.partition("\n")
    assert first.startswith("web exited ")
    assert first.endswith(" ago with code 3.")
    assert rest == (
        "app ended by itself with code 3. Its last words: ·[31mgiving up\n"
        "It is not started again: it has no restart policy (--restart=unless-stopped).\n\n"
        "What happened\n"
        "  2025-06-15 15:06:40  start\n"
        "  2025-06-15 15:06:40  die, code 3 after 7 s\n\n"
        "Its last words\n  working\n  ·[31mgiving up\n\n"
        "What to do\n- skiff logs web has all of them.\n"
    )
