"""Templates against what Docker itself printed for them.

golden/template_*.tsv: template, tab, output with ~ for a newline.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.cli.inspect import filled
from skiff.cli.table import FormatError
from skiff.cli.template import Template, TemplateError
from skiff.cli.template_lexer import number, quoted, unquoted
from skiff.cli.template_printf import sprintf

GOLDEN = Path(__file__).parent / "golden"


def cases(name: str) -> list[tuple[str, str, str]]:
    lines = (GOLDEN / f"template_{name}.tsv").read_text().splitlines()
    return [(name, *line.split("\t", 1)) for line in lines]  # type: ignore[misc]


def inspected(source: str, value: object) -> str:
    """What `inspect -f` prints, standard error included."""
    try:
        template = Template(source)
    except TemplateError as error:
        return f"template parsing error: {error}\n"
    try:
        return filled(template, value) + "\n"
    except FormatError as error:
        return f"\n{error}\n"


@pytest.mark.parametrize(("name", "source", "expected"), cases("network") + cases("container"))
def test_as_docker_prints(name: str, source: str, expected: str) -> None:
    value = json.loads((GOLDEN / f"{name}.json").read_text())[0]
    assert inspected(source, value).replace("\n", "~") == expected


WORDS = """{{ }} {{- -}} . .a .a.b $ $x := = | ( ) , " ' ` 1 1.5 0x1 -3 if else end range with
define template block break continue nil true len index slice print printf eq lt and or not json join split
upper pad /* */ x é"""
FRAGMENTS = st.sampled_from([*WORDS.split(), "\n", "\t"])


@given(st.lists(FRAGMENTS, max_size=25).map(" ".join) | st.lists(FRAGMENTS, max_size=25).map("".join))
def test_any_text_is_a_template_or_an_error(source: str) -> None:
    data = {"a": {"b": [1, "two", None, {"c": True}]}, "x": None}
    try:
        template = Template(source)
        template.execute(data)
    except TemplateError as error:
        assert str(error).startswith("template: :")
    try:
        Template(source).execute(data, strict=True)
    except TemplateError:
        pass


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(text: str) -> None:
    assert Template(text).execute(None) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_quoted_text_reads_back(text: str) -> None:
    assert unquoted(quoted(text)) == text


@given(st.text(), st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), max_size=4))
def test_printf_never_fails(pattern: str, values: list[object]) -> None:
    sprintf(pattern, values)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_integers_read_back(value: int) -> None:
    assert number(str(value)) == value
    assert sprintf("%d", [value]) == str(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_print_their_shortest_digits(value: float) -> None:
    assert float(sprintf("%v", [value])) == value


def test_lines_and_columns_of_errors() -> None:
    with pytest.raises(TemplateError) as caught:
        Template("a\n{{ 1 }}\n  {{.x.y}}").execute({"x": "s"})
    assert str(caught.value).startswith('template: :3:6: executing "" at <.x.y>:')
    assert caught.value.written == "a\n1\n  "


def test_deep_nesting_is_refused_not_a_crash() -> None:
    with pytest.raises(TemplateError):
        Template("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}")
    with pytest.raises(TemplateError):
        Template('{{define "x"}}{{template "x"}}{{end}}{{template "x"}}').execute(None)
