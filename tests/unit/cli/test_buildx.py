"""buildx's flags: another builder, another method, attestations."""

from typing import Any

import pytest

from skiff.cli.build import COMMANDS
from skiff.cli.buildx import settle
from skiff.cli.flags import parse
from skiff.errors import InvalidParameter, NotImplementedHere


class Top:
    def __init__(self) -> None:
        self.values = {"debug": False}


class Holder:
    def __init__(self) -> None:
        self.top = Top()


def settled(*words: str) -> Any:
    asked = parse(COMMANDS["build"], "build", [*words, "."])
    settle(Holder(), asked)  # type: ignore[arg-type]
    return asked


def test_call_check_is_check() -> None:
    assert settled("--call=check")["check"] is True
    assert settled()["check"] is False


@pytest.mark.parametrize(
    "words",
    [
        ("--provenance=false",),
        ("--sbom", "false"),
        ("--attest", "type=sbom,disabled=true"),
        ("--builder", "default"),
        ("--platform", "linux/amd64"),
    ],
)
def test_what_asks_for_nothing_is_done(words: tuple[str, ...]) -> None:
    settled(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("--provenance", "true"),
        ("--provenance", "mode=max"),
        ("--sbom=1",),
        ("--attest", "type=sbom"),
        ("--annotation", "a=b"),
        ("--call", "outline"),
        ("--platform", "linux/amd64,linux/arm64"),
        ("--platform", "linux/amd64", "--platform", "linux/arm64"),
    ],
)
def test_what_is_not_done_is_said(words: tuple[str, ...]) -> None:
    with pytest.raises(NotImplementedHere):
        settled(*words)


@pytest.mark.parametrize("words", [("--builder", "nosuch"), ("--provenance", "max"), ("--attest", "x")])
def test_what_cannot_be(words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParameter):
        settled(*words)
