"""What older clients ask becomes what the newest version has."""

from typing import Any

import pytest
from msgspec import UNSET, json

from skiff.docker.container import ContainerCreate, ContainerUpdate
from skiff.docker.exec import ExecCreate
from skiff.docker.network import NetworkCreate
from skiff.docker.wire import convert
from skiff.engine.api import wishes
from skiff.errors import InvalidParameter

Version = tuple[int, int]


def created(body: dict[str, Any], version: Version) -> dict[str, Any]:
    wish = wishes.create(convert(body, ContainerCreate), version)
    answer: dict[str, Any] = json.decode(json.encode(wish))
    return answer


@pytest.mark.parametrize(
    ("field", "value", "since", "before"),
    [
        ("AutoRemove", True, 25, False),
        ("IpcMode", "", 40, "shareable"),
        ("CgroupnsMode", "", 41, "host"),
        ("ConsoleSize", [10, 20], 42, [0, 0]),
        ("Annotations", {"a": "b"}, 43, None),
        ("KernelMemoryTCP", 5, 40, None),
    ],
)
def test_a_field_of_hostconfig_is_there_since_its_version(
    field: str, value: Any, since: int, before: Any
) -> None:
    body = {"HostConfig": {field: value}}
    assert created(body, (1, since))["HostConfig"].get(field) == value
    assert created(body, (1, since - 1))["HostConfig"].get(field) == before


@pytest.mark.parametrize(
    ("options", "since"), [({"NonRecursive": True}, 40), ({"CreateMountpoint": True}, 42)]
)
def test_options_of_a_bind_are_there_since_their_version(options: dict[str, bool], since: int) -> None:
    body = {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/a", "BindOptions": options}]}}
    assert created(body, (1, since))["HostConfig"]["Mounts"][0]["BindOptions"] == options
    assert created(body, (1, since - 1))["HostConfig"]["Mounts"][0]["BindOptions"] == {}


def test_read_only_was_not_recursive_before_1_44() -> None:
    mount = {"Type": "bind", "Source": "/a", "ReadOnly": True, "BindOptions": {"Propagation": "rslave"}}
    body = {"HostConfig": {"Mounts": [mount]}}
    assert created(body, (1, 44))["HostConfig"]["Mounts"] == [mount]
    options = created(body, (1, 43))["HostConfig"]["Mounts"][0]["BindOptions"]
    assert options == {"Propagation": "rslave", "ReadOnlyNonRecursive": True}


@pytest.mark.parametrize(
    ("mount", "since", "words"),
    [
        (
            {"Type": "bind", "BindOptions": {"ReadOnlyForceRecursive": True}},
            44,
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
        ),
        (
            {"Type": "volume", "VolumeOptions": {"Subpath": "s"}},
            45,
            "VolumeOptions.Subpath needs API v1.45 or newer",
        ),
        ({"Type": "image"}, 48, 'Mount type "Image" needs API v1.48 or newer'),
    ],
)
def test_what_would_do_harm_when_left_out_is_refused(mount: dict[str, Any], since: int, words: str) -> None:
    body = {"HostConfig": {"Mounts": [mount]}}
    created(body, (1, since))
    with pytest.raises(InvalidParameter) as caught:
        created(body, (1, since - 1))
    assert str(caught.value) == words


def test_several_networks_at_create_are_for_1_44() -> None:
    body: dict[str, Any] = {"NetworkingConfig": {"EndpointsConfig": {"b": {}, "a": None}}}
    created(body, (1, 44))
    with pytest.raises(InvalidParameter, match="multiple network endpoints: a, b"):
        created(body, (1, 43))


def test_the_interval_of_a_starting_health_check_is_for_1_44() -> None:
    body = {"Healthcheck": {"Test": ["NONE"], "StartInterval": 5}}
    assert created(body, (1, 44))["Healthcheck"]["StartInterval"] == 5
    assert created(body, (1, 43))["Healthcheck"] == {"Test": ["NONE"]}


def test_other_bodies() -> None:
    update = ContainerUpdate(pids_limit=5)
    assert wishes.update(update, (1, 40)) == update
    assert wishes.update(update, (1, 39)).pids_limit is None
    exec = ExecCreate(console_size=(1, 2))
    assert wishes.exec(exec, (1, 42)) == exec
    assert wishes.exec(exec, (1, 41)).console_size is None
    network = NetworkCreate(enable_ipv4=False)
    assert wishes.network(network, (1, 48)) == network
    assert wishes.network(network, (1, 47)).enable_ipv4
    assert update.init is UNSET
