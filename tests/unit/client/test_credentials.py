"""Credentials out of config.json and helpers, whatever those say: an answer, or a sentence."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skiff.client import json_text
from skiff.client.config_file import ConfigFile
from skiff.client.credentials import auth_header, credentials, registry_of
from skiff.errors import SkiffError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ENTRY = st.dictionaries(
    st.sampled_from(["auth", "username", "password", "identitytoken", "registrytoken", "email"]), JSON
)
FILE = st.fixed_dictionaries(
    {},
    optional={
        "auths": JSON | st.dictionaries(st.sampled_from(["x.lan", "https://x.lan/v1/", "y"]), JSON | ENTRY),
        "credHelpers": JSON | st.dictionaries(st.sampled_from(["x.lan", "y"]), JSON),
        "credsStore": JSON,
        "HttpHeaders": JSON | st.dictionaries(st.text(max_size=8), JSON, max_size=2),
        "proxies": JSON | st.dictionaries(st.sampled_from(["default", "x"]), JSON),
        "features": JSON,
        "currentContext": JSON,
    },
)


ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def written(folder: Path, values: dict[str, Any]) -> ConfigFile:
    (folder / "config.json").write_bytes(json_text.encode(values))
    return ConfigFile.load(str(folder))


@given(FILE)
@ONE_FOLDER
def test_whatever_config_json_says(tmp_path: Path, values: dict[str, Any]) -> None:
    config = written(tmp_path, values)
    try:
        found = credentials(config, "x.lan")
    except SkiffError:
        return
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in found.items())


@given(FILE)
@ONE_FOLDER
def test_whatever_else_it_says(tmp_path: Path, values: dict[str, Any]) -> None:
    config = written(tmp_path, values)
    assert all(
        isinstance(name, str) and isinstance(value, str) for name, value in config.http_headers.items()
    )
    assert all(isinstance(value, str) for value in config.proxies("x").values())
    config.has_feature("a", default=True)
    assert isinstance(config.current_context, str)


@given(st.binary(max_size=200) | st.from_regex(r'\{"auths": ?\{.{0,40}\}\}').map(str.encode))
@ONE_FOLDER
def test_whatever_the_file_holds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    config = ConfigFile.load(str(tmp_path))
    assert config.trouble or isinstance(config.values, dict)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the helper says lies in that file, and its exit code in `code`."""
    program = tmp_path / "docker-credential-fuzz"
    program.write_text(f'#!/bin/sh\ncat >/dev/null\ncat {tmp_path}/said\nexit "$(cat {tmp_path}/code)"\n')
    program.chmod(0o755)
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("posix.environ", {k.encode(): v.encode() for k, v in os.environ.items()})
    return tmp_path / "said"


@given(
    st.binary(max_size=60)
    | JSON.map(json_text.encode)
    | st.fixed_dictionaries({"Username": JSON, "Secret": JSON}).map(json_text.encode)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_helper_says(helper: Path, said: bytes) -> None:
    helper.write_bytes(said)
    config = ConfigFile("/nowhere", {"credsStore": "fuzz"})
    try:
        found = credentials(config, "x.lan")
    except SkiffError:
        return
    assert all(isinstance(value, str) for value in found.values())
    assert auth_header(config, "x.lan/y")


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("[]", "expected an object"),
        ('{"auths": []}', "auths: expected an object"),
        ('{"auths": {"x.lan": "s3cret"}}', "auths: x.lan: not of the kind expected"),
        ('{"auths": {"x.lan": {"auth": 7}}}', "auths: x.lan: expected strings"),
        ('{"credHelpers": {"x.lan": 1}}', "credHelpers: x.lan: not of the kind expected"),
        ('{"credsStore": ["pass"]}', "credsStore: expected a string"),
    ],
)
def test_a_file_of_another_shape(tmp_path: Path, text: str, trouble: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert (
        ConfigFile.load(str(tmp_path)).trouble == f"parsing config file ({tmp_path}/config.json): {trouble}"
    )


def test_a_secret_in_a_malformed_answer_is_not_repeated(helper: Path) -> None:
    helper.write_bytes(b'{"Username": 7, "Secret": "s3cret"}')
    with pytest.raises(SkiffError, match="docker-credential-fuzz: malformed answer") as said:
        credentials(ConfigFile("/nowhere", {"credsStore": "fuzz"}), "x.lan")
    assert "s3cret" not in str(said.value)


@given(st.text(max_size=60))
def test_whatever_is_called_an_image(image: str) -> None:
    assert registry_of(image)
