import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.errors import InvalidParameter
from skiff.oci.reference import Reference, parse, parse_tag

SHA = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("alpine", "docker.io/library/alpine", "alpine"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("library/alpine", "docker.io/library/alpine", "alpine"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("index.docker.io/user/app", "docker.io/user/app", "user/app"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app", "127.0.0.1:5000/app"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("Host/app", "Host/app", "Host/app"),
        (f"alpine@{SHA}", f"docker.io/library/alpine@{SHA}", f"alpine@{SHA}"),
        (f"alpine:1@{SHA}", f"docker.io/library/alpine:1@{SHA}", f"alpine:1@{SHA}"),
        ("a__b/c-d--e_f.g", "docker.io/a__b/c-d--e_f.g", "a__b/c-d--e_f.g"),
        ("my.app:1", "docker.io/library/my.app:1", "my.app:1"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
    ],
)
def test_parse(text: str, full: str, familiar: str) -> None:
    reference = parse(text)
    assert str(reference) == full
    assert reference.familiar == familiar
    assert parse(familiar) == reference == parse(full)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("foo_bar.x/baz", "invalid reference format"),
        ("alpine:" + "x" * 129, "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("a/Foo:1", "invalid reference format: repository name (a/Foo) must be lowercase"),
        (
            "ab" * 32,
            f"invalid repository name ({'ab' * 32}), cannot specify 64-byte hexadecimal strings",
        ),
        (
            "a" * 300,
            "invalid reference format: repository name must not be more than 255 characters",
        ),
        ("x@sha256:" + "a" * 40, "invalid reference format: invalid checksum digest length"),
        ("x@sha256:" + "A" * 64, "invalid reference format: invalid checksum digest format"),
        ("x@md5:" + "a" * 32, "invalid reference format: unsupported digest algorithm"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse(text)
    assert str(refused.value) == message


def test_tags_and_digests() -> None:
    alpine = parse("alpine")
    assert alpine.is_bare
    assert alpine.tagged().familiar == "alpine:latest"
    assert alpine.identifier == "latest"
    assert parse(f"alpine@{SHA}").identifier == SHA
    assert alpine.with_tag("x").tag == "x"
    with pytest.raises(InvalidParameter):
        parse_tag("x y")


@given(st.text(max_size=80) | st.from_regex(r"[a-z0-9.:/@_-]{1,60}", fullmatch=True))
def test_never_crashes_and_round_trips(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidParameter:
        return
    assert isinstance(reference, Reference)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference
