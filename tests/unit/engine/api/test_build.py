"""POST /build: each parameter becomes what the builder is asked for, or is refused."""

import base64
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from multidict import CIMultiDict, MultiDict

from skiff.docker.container import Ulimit
from skiff.engine.api.build import BuildRoutes
from skiff.engine.api.call import Call
from skiff.engine.builds.request import BuildRequest, CacheSource, Limits, Output
from skiff.errors import InvalidParameter, NotImplementedHere
from skiff.oci.platform import Platform

HOST = Platform(os="linux", architecture="amd64")


def asked(target: str, **headers: str) -> BuildRequest:
    """target: `/build?…`. headers: with `_` for `-`."""
    query = MultiDict(parse_qsl(target.partition("?")[2], keep_blank_values=True))
    named = CIMultiDict((name.replace("_", "-"), value) for name, value in headers.items())
    request: Any = SimpleNamespace(query=query, headers=named)
    builds: Any = None
    return BuildRoutes(builds, HOST).asked(Call(request))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (asked("/build?dockerfile=a/D"), BuildRequest(dockerfile="a/D")),
        (asked("/build?t=a&t=b:1&t="), BuildRequest(tags=("a", "b:1"))),
        (asked("/build?extrahosts=a:1,b:2&extrahosts=c:3"), BuildRequest(extra_hosts=("a:1", "b:2", "c:3"))),
        (asked("/build?remote=https://x/y"), BuildRequest(remote="https://x/y")),
        (asked("/build?q=1"), BuildRequest(quiet=True)),
        (asked("/build?nocache=1"), BuildRequest(ignore_cache=())),
        (asked('/build?cachefrom=["a"]'), BuildRequest(cache_from=(CacheSource(ref="a"),))),
        (asked("/build?pull=1"), BuildRequest(pull=True)),
        (asked("/build?rm=0"), BuildRequest(remove=False)),
        (asked("/build?rm=0&forcerm=1"), BuildRequest(remove=True, force_remove=True)),
        (asked("/build?memory=5&memswap=-1"), BuildRequest(limits=Limits(memory=5, memory_swap=-1))),
        (
            asked("/build?cpushares=1&cpuperiod=2&cpuquota=3"),
            BuildRequest(limits=Limits(cpu_shares=1, cpu_period=2, cpu_quota=3)),
        ),
        (
            asked("/build?cpusetcpus=0&cpusetmems=1"),
            BuildRequest(limits=Limits(cpuset_cpus="0", cpuset_mems="1")),
        ),
        (
            asked('/build?ulimits=[{"Name":"nofile","Soft":1,"Hard":2}]&cgroupparent=/a'),
            BuildRequest(limits=Limits(ulimits=(Ulimit(name="nofile", soft=1, hard=2),), cgroup_parent="/a")),
        ),
        (asked('/build?buildargs={"A":"1","B":null}'), BuildRequest(build_args={"A": "1", "B": None})),
        (asked("/build?shmsize=5"), BuildRequest(limits=Limits(shm_size=5))),
        (asked("/build?squash=1"), BuildRequest(squash=True)),
        (asked('/build?labels={"a":"b"}'), BuildRequest(labels={"a": "b"})),
        (asked("/build?networkmode=none"), BuildRequest(network="none")),
        (
            asked("/build?platform=linux/arm64"),
            BuildRequest(platform=Platform(os="linux", architecture="arm64")),
        ),
        (asked("/build?target=base"), BuildRequest(target="base")),
        (asked('/build?outputs=[{"Type":"local"}]'), BuildRequest(outputs=(Output(type="local"),))),
        (asked("/build?version=1"), BuildRequest()),
    ],
)
def test_each_parameter_is_handed_on(given: BuildRequest, wanted: BuildRequest) -> None:
    assert given == wanted


def test_credentials_come_by_registry() -> None:
    config = {"https://index.docker.io/v1/": {"username": "me", "password": "it"}}
    header = base64.urlsafe_b64encode(json.dumps(config).encode()).decode()
    found = asked("/build?q=0", **{"X-Registry-Config": header}).credentials
    assert found["docker.io"].username == "me"


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/build?version=2", NotImplementedHere),
        ('/build?securityopt=["seccomp=x"]', NotImplementedHere),
        ("/build?isolation=hyperv", InvalidParameter),
        ("/build?memory=x", InvalidParameter),
        ("/build?labels=x", InvalidParameter),
        ("/build?platform=///", InvalidParameter),
    ],
)
def test_what_cannot_be_is_refused(target: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        asked(target)
