"""client/target.py and config_file.py: which engine, and what the user settled."""

import json
from pathlib import Path
from typing import Any

import pytest

from skiff.cli.flags import parse_flags
from skiff.cli.main import GLOBAL_FLAGS
from skiff.client.config_file import ConfigFile, config_folder
from skiff.client.contexts import Store
from skiff.client.credentials import auth_header, credentials, registry_of
from skiff.client.endpoint import DEFAULT_SOCKET, Endpoint
from skiff.client.target import target
from skiff.errors import InvalidParameter, NotFound
from skiff.paths import RunPaths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    meta = Path(Store(str(tmp_path)).meta_path("far"))
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(
        json.dumps({"Name": "far", "Endpoints": {"docker": {"Host": "tcp://far:1"}}})
    )
    return tmp_path


def chosen(folder: Path, *argv: str, config: dict[str, Any] | None = None, **env: str) -> Endpoint:
    flags = parse_flags(GLOBAL_FLAGS, argv, interspersed=False)
    return target(flags, lambda name: env.get(name, ""), lambda: ConfigFile(str(folder), config or {}))


def test_the_default_is_where_the_engine_listens(folder: Path) -> None:
    endpoint = chosen(folder)
    assert endpoint.is_default and endpoint.path == DEFAULT_SOCKET == str(RunPaths().socket)


def test_who_says_first(folder: Path) -> None:
    env: dict[str, Any] = {"DOCKER_HOST": "tcp://d:1", "SKIFF_HOST": "tcp://s:1", "DOCKER_CONTEXT": "far"}
    assert chosen(folder, "-H", "tcp://h:1", **env).address == "h"
    assert chosen(folder, "-c", "far", **env).address == "far"
    assert chosen(folder, **env).address == "s"
    del env["SKIFF_HOST"]
    assert chosen(folder, **env).address == "d"
    del env["DOCKER_HOST"]
    assert chosen(folder, **env).address == "far"
    assert chosen(folder, config={"currentContext": "far"}).address == "far"
    assert chosen(folder, "-c", "default", config={"currentContext": "far"}).is_default


def test_what_cannot_be_chosen(folder: Path) -> None:
    with pytest.raises(NotFound, match='context "none": context not found'):
        chosen(folder, "-c", "none")
    with pytest.raises(
        InvalidParameter, match="conflicting options: cannot specify both --host and --context"
    ):
        chosen(folder, "-c", "far", "-H", "x")


def test_tls_by_flag_and_environment(folder: Path) -> None:
    (folder / "ca.pem").touch()
    endpoint = chosen(folder, "--tlsverify", "-H", "tcp://x")
    assert endpoint.tls is not None and endpoint.tls.verify and endpoint.port == 2376
    assert endpoint.tls.ca == f"{folder}/ca.pem" and endpoint.tls.cert == ""
    assert chosen(folder, DOCKER_HOST="tcp://x", DOCKER_TLS_VERIFY="1").tls is not None
    assert chosen(folder, "--tlsverify=false", DOCKER_HOST="tcp://x", DOCKER_TLS_VERIFY="1").tls is None


def test_an_authority_that_was_named_must_be_there(folder: Path) -> None:
    named = ("--tlsverify", "-H", "tcp://h:1", "--tlscacert", "/nosuch")
    with pytest.raises(NotFound, match="open /nosuch: no such file or directory"):
        chosen(folder, *named)
    with pytest.raises(NotFound, match=r"open /nosuch/ca\.pem"):
        chosen(folder, "-H", "tcp://h:1", DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH="/nosuch")
    assert chosen(folder, "--tlsverify", "-H", "tcp://h:1").tls is not None  # the system's own serve


def test_a_config_file(tmp_path: Path) -> None:
    assert ConfigFile.load(str(tmp_path)).values == {}
    values = {"proxies": {"default": {"httpProxy": "http://p"}}, "detachKeys": "ctrl-a", "psFormat": "x"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = ConfigFile.load(config_folder("", lambda name: str(tmp_path) if name == "DOCKER_CONFIG" else ""))
    assert config.proxies("any") == {"HTTP_PROXY": "http://p", "http_proxy": "http://p"}
    assert (config.detach_keys, config.format("ps"), config.format("images")) == ("ctrl-a", "x", "")
    (tmp_path / "config.json").write_text("{")
    broken = ConfigFile.load(str(tmp_path))
    assert broken.values == {}
    assert "parsing config file" in broken.trouble
    with pytest.raises(InvalidParameter, match="will not write over what cannot be read"):
        broken.save()


def test_credentials_of_a_registry() -> None:
    config = ConfigFile(
        "/", {"auths": {"r.example": {"auth": "bWU6c2VjcmV0"}, "https://old.example/v1/": {"auth": "YTpi"}}}
    )
    assert credentials(config, "r.example") == {
        "serveraddress": "r.example",
        "username": "me",
        "password": "secret",
    }
    assert credentials(config, "old.example")["username"] == "a"
    assert auth_header(config, "busybox") == "e30="
    assert registry_of("r.example/a/b:1") == "r.example"
    assert registry_of("me/app") == registry_of("docker.io/me/app") == "https://index.docker.io/v1/"


def test_credentials_from_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import posix

    helper = tmp_path / "docker-credential-mine"
    helper.write_text(
        '#!/bin/sh\nread name\necho "{\\"Username\\": \\"me\\", \\"Secret\\": \\"$1-$name\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setitem(posix.environ, b"PATH", f"{tmp_path}:/usr/bin:/bin".encode())
    found = credentials(ConfigFile("/", {"credHelpers": {"r.example": "mine"}}), "r.example")
    assert (found["username"], found["password"]) == ("me", "get-r.example")
