import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.docker import wire
from skiff.docker.container import ContainerConfig, ContainerCreate, HostConfig
from skiff.docker.exec import ExecCreate
from skiff.errors import InvalidParameter


def test_old_and_careless_clients() -> None:
    wish = wire.decode(
        b"""{"image": "x", "User": null, "Cmd": null, "Entrypoint": "sh", "Nobody": 1, "Tty": 1, "Env": null,
             "Volumes": {"/data": null}, "Labels": {"a": 1, "b": null, "c": true},
             "HostConfig": {"Memory": "512", "Binds": null, "LogConfig": null,
                            "PortBindings": {"80/tcp": null, "81/tcp": [{"HostPort": "80"}]}}}""",
        ContainerCreate,
    )
    assert (wish.image, wish.user, wish.cmd, wish.entrypoint, wish.tty) == ("x", "", None, ("sh",), True)
    assert wish.labels == {"a": "1", "b": "", "c": "true"}
    assert wish.volumes == {"/data": None}
    assert wish.host_config.memory == 512
    assert (wish.host_config.port_bindings or {})["80/tcp"] is None


def test_keys_in_any_case() -> None:
    assert wire.decode(b'{"detachKeys": "ctrl-x"}', ExecCreate).detach_keys == "ctrl-x"


def test_inspect_echoes_create() -> None:
    asked = {"Binds": ["/b:/b", "/a:/a"], "Ulimits": [{"Name": "nofile", "Hard": 2, "Soft": 1}], "Init": True}
    asked |= {
        "BlkioDeviceReadIOps": [{"Path": "/dev/a", "Rate": 3}],
        "UTSMode": "host",
        "ContainerIDFile": "f",
    }
    shown = json.loads(msgspec.json.encode(wire.convert(asked, HostConfig)))
    assert {key: shown[key] for key in asked} == asked


def test_what_docker_omits_is_omitted() -> None:
    shown = json.loads(msgspec.json.encode(ContainerConfig()))
    assert "Healthcheck" not in shown and "StopSignal" not in shown
    assert shown["Env"] is None and shown["Entrypoint"] is None


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"HostConfig": 3}', b'{"Cmd": {"a": 1}}', b'{"Env": [1]}', b"\xff"]
)
def test_what_cannot_be_decoded(body: bytes) -> None:
    with pytest.raises(InvalidParameter, match="invalid JSON"):
        wire.decode(body, ContainerCreate)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
field_names = st.sampled_from(ContainerCreate.__struct_encode_fields__ + HostConfig.__struct_encode_fields__)


@given(st.dictionaries(field_names, json_values, max_size=6))
def test_no_body_crashes(body: dict[str, object]) -> None:
    for wish in (body, {"HostConfig": body}):
        try:
            wire.convert(wish, ContainerCreate)
        except InvalidParameter:
            pass
