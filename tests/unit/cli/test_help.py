"""The layout of help pages."""

import subprocess
import sys

import pytest

from skiff.cli import help as pages
from skiff.cli.abouts import ABOUT
from skiff.cli.main import CANONICAL, load
from skiff.errors import NotImplementedHere


def test_a_page() -> None:
    text = pages.page(load("rm"), "rm")
    assert text == (
        "Usage:  skiff rm [OPTIONS] CONTAINER [CONTAINER...]\n\n"
        "Remove one or more containers\n\n"
        "Aliases:\n  skiff container rm, skiff container remove, skiff rm\n\n"
        "Options:\n"
        "  -f, --force     Force the removal of a running container (uses SIGKILL)\n"
        "  -l, --link      Remove the specified link\n"
        "  -v, --volumes   Remove anonymous volumes associated with the container\n"
    )


def test_options_wrap_below_their_own_column() -> None:
    text = pages.options((("all", "a", "bool", False, "word " * 20 + "end"), ("b", "", "map", (), "x")), 80)
    first, second, *_, last = text.splitlines()
    assert first.startswith("  -a, --all     word")
    assert second.startswith(" " * 16 + "word")
    assert len(first) <= 79
    assert last == "      --b map   x (default map[])"


@pytest.mark.parametrize(
    ("kind", "default", "note"),
    [
        ("bool", True, " (default true)"),
        ("bool", False, ""),
        ("int", -1, " (default -1)"),
        ("string", "local", ' (default "local")'),
        ("list", (), ""),
        ("map", (), " (default map[])"),
    ],
)
def test_defaults(kind: str, default: object, note: str) -> None:
    assert pages.default_note(kind, default) == note


def test_hidden_flags_are_hidden() -> None:
    assert "--time " not in pages.page(load("stop"), "stop")


def test_every_command_that_is_there_has_a_page_and_a_place() -> None:
    top = pages.top()
    for _, spellings in CANONICAL.values():
        command = pages._loaded(spellings[0])
        if command is None:
            continue
        assert pages.page(command, spellings[0]).startswith(f"Usage:  skiff {spellings[0]}")
        word = spellings[0].split(" ")[0]
        assert f"\n  {word.ljust(11)} " in top
        if command.aliases:
            assert sorted(command.aliases) == sorted(spellings)


def test_a_group() -> None:
    assert "  create      Create a volume\n" in pages.group("volume")


def test_the_lists_say_what_each_command_says_of_itself() -> None:
    told = {}
    for canonical, (_, spellings) in CANONICAL.items():
        try:
            told[canonical] = load(spellings[0]).about.split("\n")[0]
        except NotImplementedHere:
            continue
    assert {name: about for name, about in told.items() if name in ABOUT} == ABOUT


def test_the_overview_loads_no_command() -> None:
    code = "import sys; from skiff.cli.help import top; top(); print('skiff.cli.run' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
