import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.errors import InvalidParameter
from skiff.oci.platform import Platform, normalise, of_machine, parse, served_by

HOST = Platform(architecture="amd64", os="linux")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("armhf", "linux/arm/v7"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("Linux/x86_64", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("windows", "windows/amd64"),
    ],
)
def test_parse(text: str, expected: str) -> None:
    assert str(parse(text, HOST)) == expected


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "a b", "linux/amd64\n", "nonsense"])
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse(text, HOST)


def test_machines() -> None:
    assert str(of_machine("x86_64")) == "linux/amd64"
    assert str(of_machine("armv7l")) == "linux/arm/v7"
    assert str(of_machine("riscv64")) == "linux/riscv64"


def test_what_else_runs_there() -> None:
    assert [str(one) for one in served_by(parse("linux/arm/v7", HOST))] == [
        "linux/arm/v7",
        "linux/arm/v6",
        "linux/arm/v5",
    ]
    assert [str(one) for one in served_by(HOST)] == ["linux/amd64"]
    assert [str(one) for one in served_by(parse("linux/amd64/v3", HOST))] == [
        "linux/amd64/v3",
        "linux/amd64/v2",
        "linux/amd64",
    ]


@given(st.text(max_size=30))
def test_never_crashes(text: str) -> None:
    try:
        platform = parse(text, HOST)
    except InvalidParameter:
        return
    assert normalise(platform) == platform
