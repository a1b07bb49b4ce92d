"""Who may do what at Debian's docker-registry: open, with a file of passwords, with a token server.

What is said is what Docker says, asked of it against the same servers.
"""

import base64
import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import registries
from tests.integration.conftest import Cli
from tests.integration.engines import Engine
from tests.integration.registries import PASSWORD, address

pytestmark = [
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="needs Debian's docker-registry"),
    pytest.mark.skipif(not shutil.which("htpasswd"), reason="needs htpasswd"),
]
DENIED = "denied: requested access to the resource is denied"


@pytest.fixture(scope="module")
def servers(_session_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("registries")
    with registries.serving(("plain", "htpasswd", "token"), _session_engine.network.enter, root):
        yield root


@pytest.fixture
def home(engine: Engine, servers: Path) -> Iterator[Path]:
    """The client's directory, empty before and after; images of the registries are removed."""
    where = Path(engine.root, ".docker")
    shutil.rmtree(where, ignore_errors=True)
    yield where
    shutil.rmtree(where, ignore_errors=True)
    for image in engine.client.get("/images/json").json():
        for name in image["RepoTags"]:
            if name.startswith("127.0.0.1:51"):
                engine.client.delete(f"/images/{name}", force=True)


def login(cli: Cli, kind: str, user: str, password: str = PASSWORD) -> str:
    done = cli("login", "-u", user, "--password-stdin", address(kind), input=password.encode())
    assert password not in done.out + done.err
    return done.out if done.code == 0 else done.err


def test_an_open_registry(engine: Engine, home: Path, cli: Cli) -> None:
    image = f"{address('plain')}/team/app:1"
    cli("tag", "busybox", image).ok()
    pushed = cli("push", image).ok().split("\n")
    assert pushed[0] == f"The push refers to repository [{address('plain')}/team/app]"
    assert pushed[-1].startswith("1: digest: sha256:")
    cli("rmi", image).ok()
    cli("pull", "-q", image).ok()
    assert cli("run", "--rm", "--network", "none", image, "echo", "it", "runs").ok() == "it runs"
    missing = cli("pull", f"{address('plain')}/team/app:2")
    assert missing.err.strip() == (
        f"Error response from daemon: manifest for {address('plain')}/team/app:2 not found:"
        " manifest unknown: manifest unknown"
    )


def test_a_file_of_passwords(engine: Engine, home: Path, cli: Cli) -> None:
    where = address("htpasswd")
    image = f"{where}/team/app:1"
    cli("tag", "busybox", image).ok()
    assert login(cli, "htpasswd", "ann", "wrong") == (
        f"Error response from daemon: login attempt to http://{where}/v2/"
        " failed with status: 401 Unauthorized\n"
    )
    refused = cli("push", image)
    assert (refused.code, refused.err) == (1, "no basic auth credentials\n")
    assert cli("pull", image).err.startswith(
        f'Error response from daemon: Head "http://{where}/v2/team/app/manifests/1":'
        " no basic auth credentials"
    )
    every = cli("pull", "-a", f"{where}/team/app")
    assert every.err.startswith(
        f'Error response from daemon: Get "http://{where}/v2/team/app/tags/list": no basic auth credentials'
    )
    assert "Login Succeeded" in login(cli, "htpasswd", "ann")
    kept = json.loads((home / "config.json").read_text())["auths"][where]
    assert base64.b64decode(kept["auth"]).decode() == f"ann:{PASSWORD}"
    assert (home / "config.json").stat().st_mode & 0o777 == 0o600
    cli("push", "-q", image).ok()
    cli("rmi", image).ok()
    cli("pull", "-q", image).ok()
    assert cli("logout", where).ok() == f"Removing login credentials for {where}"
    assert json.loads((home / "config.json").read_text()).get("auths", {}) == {}
    assert cli("push", image).err == "no basic auth credentials\n"


def test_a_token_server(engine: Engine, home: Path, servers: Path, cli: Cli) -> None:
    where = address("token")
    image = f"{where}/team/app:1"
    cli("tag", "busybox", image).ok()
    wrong = login(cli, "token", "ann", "wrong")
    assert wrong == (
        f'Error response from daemon: Get "http://{where}/v2/": unauthorized:'
        ' {"details": "incorrect username or password"}\n'
    )
    refused = cli("push", image)
    assert (refused.code, refused.err) == (1, f"{DENIED}\n")
    nobody = (
        f"Error response from daemon: pull access denied for {where}/team/app, repository does not exist"
        f" or may require 'docker login': {DENIED}"
    )
    assert cli("pull", image).err.startswith(nobody)
    assert "Login Succeeded" in login(cli, "token", "ann")
    kept = json.loads((home / "config.json").read_text())["auths"][where]
    assert kept == {"auth": base64.b64encode(b"ann:").decode(), "identitytoken": "identity-of-ann"}
    cli("push", "-q", image).ok()
    cli("rmi", image).ok()
    cli("pull", "-q", image).ok()
    assert (servers / "token" / "asked").read_text().count("POST ann repository:team/app:pull") >= 2
    assert "Login Succeeded" in login(cli, "token", "bob")
    cli("tag", image, f"{where}/team/other:1").ok()
    refused = cli("push", f"{where}/team/other:1")
    assert (refused.code, refused.err) == (1, f"{DENIED}\n"), "bob may only pull"
    cli("pull", "-q", image).ok()
    cli("logout", where).ok()
    assert cli("pull", image).err.startswith(nobody)


def test_a_token_that_ended_is_renewed(engine: Engine, home: Path, servers: Path) -> None:
    """The client believes in its token for minutes; the registry does not after two seconds."""
    image = f"{address('token')}/team/renewed:1"
    engine.skiff("tag", "busybox", image).ok()
    login(engine.skiff, "token", "ann")
    engine.skiff("push", "-q", image).ok()
    (servers / "token" / "age").write_text("58")  # the registry forgives sixty
    try:
        engine.skiff("pull", "-q", image).ok()
        asked = (servers / "token" / "asked").read_text().count("\n")
        (servers / "token" / "age").unlink()
        time.sleep(2.5)
        engine.skiff("pull", "-q", image).ok()
        assert (servers / "token" / "asked").read_text().count("\n") > asked
    finally:
        (servers / "token" / "age").unlink(missing_ok=True)


def test_twenty_pulls_at_once(engine: Engine, home: Path) -> None:
    image = f"{address('plain')}/team/popular:1"
    engine.skiff("tag", "busybox", image).ok()
    engine.skiff("push", "-q", image).ok()
    engine.skiff("rmi", image).ok()
    outcomes: list[int] = []
    pulls = [
        threading.Thread(target=lambda: outcomes.append(engine.client.post(
            "/images/create", fromImage=f"{address('plain')}/team/popular", tag="1").body.count(b'"error"')))
        for _ in range(20)
    ]  # fmt: skip
    for pull in pulls:
        pull.start()
    for pull in pulls:
        pull.join(60)
    assert outcomes == [0] * 20
    assert engine.skiff("run", "--rm", "--network", "none", image, "echo", "whole").ok() == "whole"


def test_no_secret_is_told(own_engine: Engine, tmp_path: Path) -> None:
    """Not in logs at debug level, in errors, in events, in the words of any process, in the data root."""
    own_engine.stop()
    own_engine.flags = ("--debug", "--log-level", "debug")
    own_engine.start()
    secret = f"pw-{os.urandom(8).hex()}"
    tokens = ("identity-of-ann",)
    seen: list[str] = []
    watching = threading.Event()

    def watch() -> None:
        while not watching.is_set():
            for pid in own_engine.processes():
                with contextlib.suppress(OSError):
                    seen.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))
            time.sleep(0.01)

    with registries.serving(("htpasswd", "token"), own_engine.network.enter, tmp_path):
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            since = str(time.time())
            said = []
            for kind in ("htpasswd", "token"):
                image = f"{address(kind)}/secret/app:1"
                own_engine.skiff("tag", "busybox", image).ok()
                for password in (secret, PASSWORD):
                    words = ("login", "-u", "ann", "--password-stdin", address(kind))
                    done = own_engine.skiff(*words, input=password.encode())
                    said.append(done.out + done.err)
                said += [own_engine.skiff(*words).out for words in (("push", image), ("pull", image))]
                nowhere = own_engine.skiff("pull", f"{address(kind)}/secret/none")
                said.append(nowhere.out + nowhere.err)
            events = own_engine.client.get("/events", since=since, until=str(time.time())).body.decode()
            info = own_engine.client.get("/info").body.decode()
        finally:
            watching.set()
            watcher.join()
    told = {
        "said": "".join(said),
        "events": events,
        "info": info,
        "log": own_engine.log(),
        "ps": "\n".join(seen),
    }
    assert "Login Succeeded" in told["said"] and "push" in told["events"] and seen
    basic = [base64.b64encode(f"ann:{one}".encode()).decode() for one in (secret, PASSWORD)]
    for place, text in told.items():
        for one in (secret, PASSWORD, *tokens, *basic, "Bearer "):
            assert one not in text, (place, one)
    stored = Path(own_engine.root, "data/state.db").read_bytes()
    assert not any(one.encode() in stored for one in (secret, PASSWORD, *tokens))
