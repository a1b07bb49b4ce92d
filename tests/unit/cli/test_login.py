"""login and logout: what is stored where, and what nobody gets to see."""

import base64
import json
import os
import posix
import pty
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from skiff.cli import login
from skiff.cli.flags import parse
from skiff.client import credentials as stored
from skiff.client.config_file import ConfigFile
from skiff.errors import SkiffError

HELPER = """#!/bin/sh
case $1 in
store) cat > "$HELD" ;;
get) cat > /dev/null; [ -s "$HELD" ] || { echo "credentials not found in native keychain"; exit 1; }
    cat "$HELD" ;;
erase) cat > /dev/null; rm -f "$HELD" ;;
esac
"""


class FakeSession:
    def __init__(self, folder: Path, answer: Any = None) -> None:
        self.file = ConfigFile.load(str(folder))
        self.asked: list[Any] = []
        self.answer = answer or {"Status": "Login Succeeded", "IdentityToken": ""}

    def config(self) -> ConfigFile:
        return self.file

    def engine(self) -> "FakeSession":
        return self

    def post(self, path: str, json: Any) -> Any:
        self.asked.append((path, json))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def err(self, text: str) -> None:
        print(text)


def run(session: FakeSession, command: str, *argv: str) -> int:
    found = login.COMMANDS[command]
    return found.act(session, parse(found, command, argv))


def on_file(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())


def test_the_file_is_the_owners_and_keeps_what_we_do_not_know(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text('{"unknown": {"a": 1}, "auths": {"old": {"auth": "eDp5"}}}')
    (tmp_path / "config.json").symlink_to("real.json")
    session = FakeSession(tmp_path)
    assert stored.store(session.file, "r.example", {"username": "ann", "password": "s3:cret"})
    assert (tmp_path / "config.json").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.json").stat().st_mode) == 0o600
    assert on_file(tmp_path) == {
        "unknown": {"a": 1},
        "auths": {"old": {"auth": "eDp5"}, "r.example": {"auth": base64.b64encode(b"ann:s3:cret").decode()}},
    }
    assert stored.credentials(ConfigFile.load(str(tmp_path)), "r.example") == {
        "serveraddress": "r.example",
        "username": "ann",
        "password": "s3:cret",
    }
    assert not stored.store(session.file, "r.example", {"username": "ann", "password": "s3:cret"})
    assert sorted(os.listdir(tmp_path)) == ["config.json", "real.json"]


def test_logout_forgets_every_spelling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    auths = {name: {"auth": "eDp5"} for name in ("r.example", "https://r.example", "other")}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    assert run(FakeSession(tmp_path), "logout", "https://r.example/v2/") == 0
    assert on_file(tmp_path)["auths"] == {"other": {"auth": "eDp5"}}
    assert capsys.readouterr().out == "Removing login credentials for r.example\n"


def test_a_helper_keeps_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker-credential-test").write_text(HELPER)
    (tmp_path / "docker-credential-test").chmod(0o755)
    monkeypatch.setitem(posix.environ, b"PATH", f"{tmp_path}:/usr/bin:/bin".encode())
    monkeypatch.setitem(posix.environ, b"HELD", f"{tmp_path}/held".encode())
    (tmp_path / "config.json").write_text('{"credHelpers": {"r.example": "test"}}')
    file = ConfigFile.load(str(tmp_path))
    assert not stored.store(file, "r.example", {"username": "ann", "password": "s3cret"})
    assert json.loads((tmp_path / "held").read_text()) == {
        "ServerURL": "r.example",
        "Username": "ann",
        "Secret": "s3cret",
    }
    assert "s3cret" not in (tmp_path / "config.json").read_text()
    assert stored.credentials(file, "r.example")["password"] == "s3cret"
    stored.erase(file, "r.example")
    assert stored.credentials(file, "r.example") == {}


def test_an_identity_token_stands_for_the_password(tmp_path: Path) -> None:
    session = FakeSession(tmp_path, {"Status": "Login Succeeded", "IdentityToken": "tok"})
    assert run(session, "login", "-u", "ann", "-p", "s3cret", "r.example") == 0
    assert on_file(tmp_path)["auths"]["r.example"] == {
        "auth": base64.b64encode(b"ann:").decode(),
        "identitytoken": "tok",
    }


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--password-stdin"], "the --password-stdin option requires --username to be set"),
        (
            ["-u", "x", "-p", "y", "--password-stdin"],
            "conflicting options: cannot specify both --password and --password-stdin",
        ),
        (["-u", ""], "username is empty"),
    ],
)
def test_what_cannot_be_a_login(tmp_path: Path, argv: list[str], words: str) -> None:
    with pytest.raises(SkiffError) as refused:
        run(FakeSession(tmp_path), "login", *argv)
    assert str(refused.value) == words


def test_a_refused_login_stores_nothing(tmp_path: Path) -> None:
    with pytest.raises(SkiffError, match="no"):
        run(FakeSession(tmp_path, SkiffError("no")), "login", "-u", "a", "-p", "b", "r.example")
    assert not (tmp_path / "config.json").exists()


def test_the_password_is_not_shown(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        try:
            sys.stdout = os.fdopen(1, "w")  # the terminal, not what captures the tests' output
            run(FakeSession(tmp_path), "login", "r.example")
            sys.stdout.flush()
        finally:
            os._exit(0)
    seen = b""

    def until(mark: bytes) -> None:
        nonlocal seen
        while mark not in seen:
            seen += os.read(terminal, 1000)

    until(b"Username: ")
    os.write(terminal, b"ann\n")
    until(b"Password: ")
    os.write(terminal, b"s3cret\n")
    until(b"Login Succeeded")
    os.close(terminal)
    os.waitpid(child, 0)
    assert b"s3cret" not in seen
    assert b"ann" in seen
    assert on_file(tmp_path)["auths"]["r.example"]["auth"] == base64.b64encode(b"ann:s3cret").decode()
