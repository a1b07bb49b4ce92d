import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.errors import InvalidParameter, SkiffError
from skiff.oci.digest import ChainID, DiffID
from skiff.oci.image import chain_id, chain_ids, encode, parse

A, B = DiffID("sha256:" + "a" * 64), DiffID("sha256:" + "b" * 64)
DOCKERS: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-02T03:04:05.678901234Z",
    "docker_version": "28.0",
    "container_config": {"Cmd": ["ignored"]},
    "config": {
        "Hostname": "",
        "User": "me:you",
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["A=1"],
        "Cmd": None,
        "Entrypoint": ["/x"],
        "Volumes": {"/data": {}},
        "OnBuild": ["RUN x"],
        "Shell": ["/bin/bash", "-c"],
        "ArgsEscaped": True,
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1000000000, "StartInterval": 5},
        "Labels": None,
    },
    "rootfs": {"type": "layers", "diff_ids": [A, B]},
    "history": [{"created_by": "x"}, {"created_by": "y", "empty_layer": True}],
}


def test_docker_extras() -> None:
    config = parse(json.dumps(DOCKERS).encode())
    run = config.run
    assert run.healthcheck is not None
    assert run.healthcheck.test == ("CMD-SHELL", "true")
    assert (run.on_build, run.shell, run.args_escaped) == (("RUN x",), ("/bin/bash", "-c"), True)
    assert run.cmd is None
    assert run.entrypoint == ("/x",)
    assert config.diff_ids == (A, B)
    assert config.steps[1].empty_layer
    assert parse(encode(config)) == config


def test_the_least_config() -> None:
    config = parse(b'{"rootfs":{"type":"layers","diff_ids":null}}')
    assert config.diff_ids == ()
    assert config.run.env is None
    assert b'"diff_ids":[]' in encode(config)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"rootfs":{"type":"fancy"}}', b"\xff"])
def test_refuses(data: bytes) -> None:
    with pytest.raises(InvalidParameter):
        parse(data)


def test_chains() -> None:
    assert chain_id([]) is None
    assert chain_id([A]) == ChainID(A)
    assert chain_id([A, B]) == "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    assert chain_ids([A, B])[0] == ChainID(A)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        parse(data)
    except SkiffError:
        pass
