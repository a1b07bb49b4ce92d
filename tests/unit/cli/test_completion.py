"""Candidates at a tab, and scripts that the shells accept."""

import shutil
import subprocess
from typing import Any

import pytest

from skiff.cli.completion import SCRIPTS, candidates
from skiff.errors import Unavailable


class Engine:
    def containers(self, *, all: bool) -> list[dict[str, Any]]:
        names = ["/web", "/db"] if all else ["/web"]
        return [{"Names": [name]} for name in names]

    def volumes(self) -> dict[str, Any]:
        raise Unavailable("not now")


class Session:
    def engine(self) -> Engine:
        return Engine()


def at(*words: str) -> list[str]:
    return candidates(Session(), words)  # type: ignore[arg-type]


def test_commands_and_groups() -> None:
    assert at("vol") == ["volume"]
    assert "volume" in at("")
    assert at("volume", "cr") == ["create"]


def test_flags() -> None:
    assert at("ps", "--no") == ["--no-trunc"]
    assert "--time" not in at("stop", "--")
    assert at("--tlsv") == ["--tlsverify"]


def test_names_of_containers() -> None:
    assert at("stop", "") == ["web"]
    assert at("container", "rm", "") == ["db", "web"]
    assert at("-H", "tcp://a", "rm", "db", "") == ["web"]


def test_an_engine_that_does_not_answer_has_no_names() -> None:
    assert at("volume", "rm", "") == []


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_scripts_parse(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=SCRIPTS[shell], text=True, check=True)
