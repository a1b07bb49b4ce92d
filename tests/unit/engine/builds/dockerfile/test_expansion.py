"""Variables: the values are those that Docker gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiff.engine.builds.dockerfile.errors import Fault
from skiff.engine.builds.dockerfile.expansion import Expansion

VARIABLES = {"N": "foobarbaz", "E": "", "S": "a b"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$N", "foobarbaz"), ("${N}x", "foobarbazx"), ("$N$N", "foobarbazfoobarbaz"), ("$U", ""),
        ("${N#foo}", "barbaz"), ("${N##*b}", "az"), ("${N%baz}", "foobar"), ("${N%%b*}", "foo"),
        ("${N#*o}", "obarbaz"), ("${N%a*}", "foobarb"),
        ("${N/ba/X}", "fooXrbaz"), ("${N//ba/X}", "fooXrXz"), ("${N/nope/x}", "foobarbaz"),
        ("${N/b*z/Q}", "fooQ"),
        ("${N//b?/_}", "foo_r_z"), ("${N/\\*/x}", "foobarbaz"), ("${N/o/}", "fobarbaz"),
        ("${E:-x}", "x"), ("${E-x}", ""), ("${U-x}", "x"), ('${U:-"q r"}', "q r"), ("${E:+x}", ""),
        ("${E+x}", "x"), ("${N:+${S}y}", "a by"), ("${U:-${N}}", "foobarbaz"), ("${U:-}", ""),
        ("${U:-a\\}b}", "a}b"), ('"${U:-\'q\'}"', "q"), ("${N:?no}", "foobarbaz"),
        ("\\$N", "$N"), ("'$N'", "$N"), ('"$N"', "foobarbaz"), ('"\\$N"', "$N"), ('"a\\b"', "a\\b"),
        ("a\\b", "ab"), ('\\"q\\"', '"q"'), ("$$", ""), ("\"a'b\"", "a'b"),
        ("'a\"b'", 'a"b'), ("a\\ b", "a b"),
        ("$", "$"), ('"$"', "$"), ("$1", ""), ('"\\\\"', "\\"), ("\\\\", "\\"), ("'\\\\'", "\\\\"),
        ("x  y   \"z\" $N", "x  y   z foobarbaz"), ("", ""),
    ],
)  # fmt: skip
def test_a_word(text: str, value: str) -> None:
    assert Expansion(VARIABLES).word(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${B", "syntax error: missing '}'"),
        ("${B:x}", "unsupported modifier (:x) in substitution"),
        ("${B@x}", "unsupported modifier (@) in substitution"),
        ("${}", "syntax error: bad substitution"),
        ("${B?}", "B: is not allowed to be unset"),
        ("${E:?}", "E: is not allowed to be empty"),
        ("${B:?not here}", "B: not here"),
        ("${N/o}", "syntax error: missing '/' in ${}"),
        ('"x', "unexpected end of statement while looking for matching double-quote"),
        ("'x", "unexpected end of statement while looking for matching single-quote"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(Fault) as caught:
        Expansion(VARIABLES).word(text)
    assert caught.value.message == "failed to process " + '"' + text.replace('"', '\\"') + f'": {message}'


def test_words_split_at_blanks_outside_of_quotes() -> None:
    expansion = Expansion(VARIABLES)
    assert expansion.words("a \"b c\" $S x$S ${U}  '' d\\ e") == ["a", "b c", "a", "b", "xa", "b", "", "d e"]
    assert expansion.words("$U") == []


def test_content_keeps_its_quotes() -> None:
    text = '$S "${S}" \'${S}\' \\$S \\\\ \\a ${U:-"x"}\n\ttab\n'
    assert Expansion(VARIABLES).content(text) == 'a b "a b" \'a b\' $S \\ a "x"\n\ttab\n'


def test_another_escape() -> None:
    assert Expansion(VARIABLES, "`").word("`$x\\y") == "$x\\y"


def test_it_remembers_what_was_undefined() -> None:
    expansion = Expansion(VARIABLES)
    expansion.word("$N $U ${V} ${W:-x}")
    assert list(expansion.undefined) == ["U", "V"]


_PIECES = st.sampled_from([*"$ {}:-+?#%/*\\`'\"aNU \n", "${N", "${U:-", "${N//", "}", "$N"])


@settings(max_examples=500, deadline=None)
@given(st.lists(_PIECES, max_size=40).map("".join), st.sampled_from("\\`"))
def test_nothing_but_a_fault(text: str, escape: str) -> None:
    for act in (Expansion.word, Expansion.words, Expansion.content):
        try:
            act(Expansion(VARIABLES, escape), text)
        except Fault:
            pass


@given(st.text(alphabet="abc XYZ_019.,;:!%&()=+", max_size=40))
def test_plain_text_stays(text: str) -> None:
    assert Expansion({}).word(text) == text
