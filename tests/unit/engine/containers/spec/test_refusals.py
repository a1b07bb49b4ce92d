"""What create refuses, in the words that clients know."""

from typing import Any

import pytest

from skiff.docker import wire
from skiff.docker.container import ContainerCreate
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.containers.spec import limits, merge, mounts, security
from skiff.errors import InvalidParameter

HOST: list[tuple[dict[str, Any], str]] = [
    ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
    ({"MemorySwap": 1000}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    (
        {"Memory": 10 << 20, "MemorySwap": 1000},
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    ),
    ({"MemoryReservation": 1000}, "Minimum memory reservation allowed is 6MB"),
    ({"MemorySwappiness": 200}, "Invalid value: 200, valid memory swappiness range is 0-100"),
    ({"NanoCpus": 1, "CpuPeriod": 1000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
    (
        {"NanoCpus": 64 * 10**9},
        "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
    ),
    ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ({"CpusetCpus": "x"}, "Invalid value x for cpuset cpus: invalid format: x"),
    ({"CpusetCpus": "9"}, "Requested CPUs are not available - requested 9, available: 0-1"),
    ({"ShmSize": -1}, "SHM size can not be less than 0"),
    ({"OomScoreAdj": 5000}, "Invalid value 5000, range for oom score adj is [-1000, 1000]"),
    (
        {"RestartPolicy": {"Name": "foo"}},
        "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or "
        "'unless-stopped'",
    ),
    (
        {"RestartPolicy": {"Name": "always"}, "AutoRemove": True},
        "can't create 'AutoRemove' container with restart policy",
    ),
    ({"CapAdd": ["FOO"]}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
    ({"SecurityOpt": ["foo=bar"]}, 'invalid --security-opt 2: "foo=bar"'),
    ({"SecurityOpt": ["foo"]}, 'invalid --security-opt 1: "foo"'),
    ({"IpcMode": "foo"}, "invalid IPC mode: foo"),
    ({"PidMode": "foo"}, "invalid PID mode: foo"),
    ({"Runtime": "foo"}, "unknown or invalid runtime name: foo"),
    (
        {"LogConfig": {"Type": "foo"}},
        'error looking up logging plugin foo: plugin "foo" not found',
    ),
    (
        {"LogConfig": {"Type": "json-file", "Config": {"x": "y"}}},
        "unknown log opt 'x' for json-file log driver",
    ),
    ({"ExtraHosts": ["foo"]}, 'bad format for add-host: "foo"'),
    ({"ExtraHosts": ["foo:bar"]}, 'invalid IP address in add-host: "bar"'),
    ({"Binds": ["/a:/b:foo"]}, "invalid mode: foo"),
    ({"Binds": ["/a:/b", "/c:/b"]}, "Duplicate mount point: /b"),
    ({"Binds": ["aa:ro"]}, "invalid volume specification: 'aa:ro'"),
    ({"Binds": ["/aa:"]}, "invalid volume specification: '/aa:'"),
    ({"Binds": ["/a:/b:ro:z"]}, "invalid volume specification: '/a:/b:ro:z'"),
    (
        {"Binds": ["/a:/"]},
        "invalid volume specification: '/a:/': invalid mount config for type \"bind\": "
        "invalid specification: "
        "destination can't be '/'",
    ),
    (
        {"Binds": ["a:/b"]},
        "create a: volume name is too short, names should be at least two alphanumeric characters",
    ),
    (
        {"Mounts": [{"Type": "foo", "Target": "/x"}]},
        'invalid mount config for type "foo": mount type unknown',
    ),
    (
        {"Mounts": [{"Type": "bind", "Target": "/x"}]},
        'invalid mount config for type "bind": field Source must not be empty',
    ),
    (
        {"Mounts": [{"Type": "volume", "Target": "/x", "BindOptions": {}}]},
        'BindOptions must not be specified on mount type "volume"',
    ),
    ({"Tmpfs": {"x": ""}}, "invalid mount path: 'x' mount path must be absolute"),
]


def refuse(body: dict[str, Any]) -> str:
    settings = ContainerSettings()
    wish = wire.convert(body, ContainerCreate)
    with pytest.raises(InvalidParameter) as caught:
        host = merge.with_defaults(wish.host_config, settings)
        merge.check_config(wish)
        merge.check_host(wish, host, settings)
        limits.check(host, limits.Machine(cpus="0-1", cpu_count=2))
        mounts.plans(host, wish.volumes or {})
    return str(caught.value)


@pytest.mark.parametrize(("host", "words"), HOST, ids=[words[:40] for _, words in HOST])
def test_host_config(host: dict[str, Any], words: str) -> None:
    assert refuse({"Image": "x", "HostConfig": host}) == words


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"WorkingDir": "foo"}, "the working directory 'foo' is invalid, it needs to be an absolute path"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"Healthcheck": {"Interval": 5}}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Healthcheck": {"Retries": -1}}, "Retries in Healthcheck cannot be negative"),
    ],
)
def test_config(config: dict[str, Any], words: str) -> None:
    assert refuse({"Image": "x", **config}) == words


@pytest.mark.parametrize("rule", ["foo", "c 1:3", "x 1:3 r", "c 1:3 rq", "c 1 r"])
def test_device_rules(rule: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid device cgroup rule format"):
        security.device_rule(rule)
