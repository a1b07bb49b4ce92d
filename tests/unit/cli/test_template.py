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
from skiff.cli.template_lexer import number, unquoted
from skiff.cli.template_printf import sprintf
from skiff.docker.quoting import quoted

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


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{{printf "%[2]s %[1]s" "a" "b"}}', "b a"),
        ('{{printf "%[2]*[1]d|" 7 4}}', "   7|"),
        ('{{printf "%[3]s" "a"}}', "%!s(BADINDEX)"),
        ('{{printf "%[x]s" "a"}}', "%!s(BADINDEX)"),
        ('{{printf "%g %v %G" 1e8 1e8 1e8}}', "1e+08 1e+08 1E+08"),
        ("{{2i}} {{-1.5i}}", "(0+2i) (0-1.5i)"),
        ('{{pad "" 2 2}}|', "|"),
        ("{{urlquery nil}} {{html 1 2}}", "%3Cno+value%3E 1 2"),
    ],
)
def test_functions_as_go_has_them(source: str, expected: str) -> None:
    assert Template(source).execute({}) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{len nil}}", "<len nil>: error calling len: reflect: call of reflect.Value.Type on zero Value"),
        ("{{call nil}}", "<call nil>: error calling call: call of nil"),
        ('{{index "" 0}}', '<index "" 0>: error calling index: reflect: string index out of range'),
        ('{{index "a" 2}}', '<index "a" 2>: error calling index: index out of range: 2'),
        ("{{$x = 1}}", "<1>: undefined variable: $x"),
        ('{{range split "a" "x" | len | print}}{{end}}', "<print>: range can't iterate over 1"),
    ],
)
def test_mistakes_in_gos_words(source: str, message: str) -> None:
    with pytest.raises(TemplateError) as raised:
        Template(source).execute({})
    assert str(raised.value).endswith(f'executing "" at {message}')


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
