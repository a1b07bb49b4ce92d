"""The layout of help pages."""

import subprocess
import sys

import pytest
from tests.conformance.compatibility import commands as docker_commands

from skiff.cli import help as pages
from skiff.cli.abouts import ABOUT
from skiff.cli.main import CANONICAL, SPELLINGS, load
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
        ("ulimit", (), " (default [])"),
        ("duration", 0, " (default 0s)"),
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


def test_what_docker_has_not_stands_apart() -> None:
    group = pages.group("volume")
    assert group.index("Skiff Commands:\n  clone ") > group.index("  rm ")
    page = pages.page(load("volume prune"), "volume prune")
    assert page.endswith("\n\nSkiff Options:\n      --dry-run   Only tell what would be removed\n")
    assert "\n\nSkiff Usage:\n  skiff top\n      A screen" in pages.page(load("top"), "top")
    assert "Skiff" not in pages.page(load("undo"), "undo")


def test_a_short_form_that_is_no_help_has_it_told() -> None:
    assert "--help Print usage" in " ".join(pages.page(load("run"), "run").split())
    assert "--help" not in pages.page(load("ps"), "ps")


def test_the_defaults_of_global_flags_are_those_of_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/c")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/certificates")
    defaults = {flag[0]: flag[3] for flag in pages.global_flags()}
    assert (defaults["config"], defaults["tlskey"]) == ("/c", "/certificates/key.pem")


def test_every_flag_is_dockers_or_told_apart() -> None:
    """Docker's own lists, from its help."""
    for command, flags in docker_commands():
        path = command.removeprefix("docker ")
        if path in SPELLINGS:
            row = load(path)
            hidden = {name for name, _, _, _, about in row.flags if not about}
            extra = {flag[0] for flag in row.flags} - {flag[2:] for flag in flags} - hidden
            buildx = {"call", "sbom"}  # the page of `build` is that of buildx
            assert extra <= pages.OWN_FLAGS or buildx <= extra or "builder" in path, (path, extra)


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
