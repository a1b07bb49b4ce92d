"""skiff explain and --trace: the lines, the Chrome trace, and the conversation with the engine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.fake_engine import FakeEngine, Reply

from skiff.cli.explain import WATCHED, chrome_trace, drawn

PROGRAM = str(Path(__file__).parents[3] / "src/skiff/cli/__main__.py")


def step(start: float, took: float, title: str, **others: Any) -> dict[str, Any]:
    base = {"Process": "engine", "Pid": 10, "Shell": "", "Error": "", "Depth": 0}
    return {"Start": start, "Took": took, "Title": title, **base, **others}


TRACE = {
    "Took": 2500.0,
    "Steps": [
        step(0.0, 2500.0, "POST /containers/x/start"),
        step(100.0, 40.5, "host name box", Process="init", Pid=1, Shell="hostname box", Depth=1),
        step(200.0, 3.0, "directory /x", Process="init", Pid=1, Shell="mkdir /x", Error="File exists"),
    ],
}


def test_the_lines() -> None:
    assert list(drawn(TRACE, columns=0, coloured=False)) == [
        "2.500 ms, 3 steps\n",
        "    AT ms    TOOK µs  PROCESS  STEP                     SHELL\n",
        "    0.000     2500.0  engine   POST /containers/x/start\n",
        "    0.100       40.5  init       host name box          $ hostname box\n",
        "    0.200        3.0  init     directory /x             ✗ File exists  $ mkdir /x\n",
        WATCHED,
    ]


def test_only_what_is_forked_for_it_says_so() -> None:
    engine = {"Took": 1.0, "Steps": [step(0.0, 2500.0, "POST /containers/x/start")]}
    assert WATCHED not in drawn(engine, columns=0, coloured=False)
    assert max(len(line) for line in WATCHED.splitlines()) < 80


@pytest.mark.parametrize("columns", [10, 40, 80, 81, 200])
def test_a_terminal_has_no_broken_lines(columns: int) -> None:
    long = {"Took": 1.0, "Steps": [step(0, 1, "t" * 300, Shell="s" * 300), step(0, 1, "u" * 300)]}
    for line in drawn(long, columns=columns, coloured=False):
        assert len(line.rstrip("\n")) <= max(columns, 71)


def test_colours_only_when_asked() -> None:
    assert "\x1b" not in "".join(drawn(TRACE, columns=80, coloured=False))
    coloured = list(drawn(TRACE, columns=80, coloured=True))
    assert "\x1b[2m $ hostname box\x1b[0m" in coloured[3]
    assert "\x1b[31m ✗ File exists" in coloured[4]


def test_a_chrome_trace() -> None:
    found = chrome_trace(TRACE)
    names = [event for event in found["traceEvents"] if event["ph"] == "M"]
    spans = [event for event in found["traceEvents"] if event["ph"] == "X"]
    assert [event["args"]["name"] for event in names] == ["engine 10", "init 1"]
    assert [(event["name"], event["ts"], event["dur"]) for event in spans] == [
        ("POST /containers/x/start", 0.0, 2500.0),
        ("host name box", 100.0, 40.5),
        ("directory /x", 200.0, 3.0),
    ]
    assert spans[1]["args"] == {"shell": "hostname box"}
    assert spans[2]["args"] == {"shell": "mkdir /x", "error": "File exists"}
    assert spans[0]["pid"] != spans[1]["pid"]


def skiff(engine: FakeEngine, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-IS", PROGRAM, *words],
        env={"DOCKER_HOST": engine.url, "PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_command_runs_and_its_requests_carry_the_name(tmp_path: Path) -> None:
    with FakeEngine(str(tmp_path / "e.sock")) as engine:
        engine.route("POST /containers/box/pause")(lambda request: Reply(204))
        engine.route("GET /skiff/traces/[0-9a-f]+")(lambda request: Reply(200, TRACE))
        file = tmp_path / "trace.json"
        done = skiff(engine, "explain", "--chrome", str(file), "pause", "box")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("box\n2.500 ms, 3 steps\n")
        assert done.stderr == ""
        name = engine.requests[0].headers["x-skiff-trace"]
        assert engine.paths() == ["POST /containers/box/pause", f"GET /skiff/traces/{name}"]
        assert "x-skiff-trace" not in engine.requests[1].headers
        assert json.loads(file.read_text())["traceEvents"]


def test_trace_is_a_flag_of_every_command_and_keeps_its_exit_code(tmp_path: Path) -> None:
    with FakeEngine(str(tmp_path / "e.sock")) as engine:
        engine.route("POST /containers/box/pause")(lambda request: Reply(409, {"message": "no"}))
        engine.route("GET /skiff/traces/[0-9a-f]+")(lambda request: Reply(200, TRACE))
        done = skiff(engine, "--trace", "pause", "box")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error response from daemon: no\n2.500 ms, 3 steps\n")


def test_what_cannot_be_explained_is_said(tmp_path: Path) -> None:
    with FakeEngine(str(tmp_path / "e.sock")) as engine:
        engine.route("POST /containers/box/pause")(lambda request: Reply(204))
        done = skiff(engine, "explain", "pause", "box")
        assert (done.returncode, done.stderr) == (1, "skiff explain: this engine keeps no traces\n")
        done = skiff(engine, "explain", "explain", "ps")
        assert done.returncode == 1
        assert "is no command of the engine's" in done.stderr
        assert skiff(engine, "explain").returncode == 1
