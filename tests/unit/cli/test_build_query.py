"""cli/build_query.py: flag lines of `build` and what they ask of POST /build."""

from typing import Any

import pytest

from skiff.cli import build_query
from skiff.cli.build import COMMANDS
from skiff.cli.flags import parse
from skiff.errors import NotImplementedHere

PLAIN = {"networkmode": "default", "rm": True, "version": "1"}


class Session:
    """The environment of a command line; a build's query needs no more of one."""

    def env(self, name: str) -> str:
        return {"HOME": "/root"}.get(name, "")


def query(*argv: str) -> dict[str, Any]:
    asked = parse(COMMANDS["build"], "build", [*argv, "."])
    found = build_query.query(Session(), asked)  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if value is not None}


def test_a_plain_build() -> None:
    assert query() == PLAIN


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--add-host db:10.0.0.1", "extrahosts", ["db:10.0.0.1"]),
        (
            "--build-arg A=1 --build-arg HOME --build-arg NONE",
            "buildargs",
            '{"A":"1","HOME":"/root","NONE":null}',
        ),
        ("--cgroup-parent /a", "cgroupparent", "/a"),
        ("--cpu-period 5", "cpuperiod", 5),
        ("--cpu-quota 5", "cpuquota", 5),
        ("--cpu-shares 5", "cpushares", 5),
        ("--cpuset-cpus 0-1", "cpusetcpus", "0-1"),
        ("--cpuset-mems 0", "cpusetmems", "0"),
        ("--force-rm", "forcerm", True),
        ("--isolation default", "isolation", "default"),
        ("--label a=b --label c", "labels", '{"a":"b","c":""}'),
        ("--memory 64m", "memory", 64 << 20),
        ("--memory-swap -1", "memswap", -1),
        ("--network none", "networkmode", "none"),
        ("--no-cache", "nocache", True),
        ("--no-cache-filter one --no-cache-filter two", "nocachefilter", ["one", "two"]),
        ("--platform linux/arm64", "platform", "linux/arm64"),
        ("--pull", "pull", True),
        ("--quiet", "q", True),
        ("--rm=false", "rm", False),
        ("--security-opt seccomp=x", "securityopt", '["seccomp=x"]'),
        ("--shm-size 1m", "shmsize", 1 << 20),
        ("--squash", "squash", True),
        ("--tag a --tag b:1", "t", ["a", "b:1"]),
        ("--target base", "target", "base"),
        ("--ulimit nofile=1:2", "ulimits", '[{"Name":"nofile","Hard":2,"Soft":1}]'),
        ("--disable-content-trust", "version", "1"),
    ],
)
def test_each_flag_is_asked_for(line: str, name: str, value: Any) -> None:
    assert query(*line.split()) == PLAIN | {name: value}


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(NotImplementedHere, match="--compress"):
        query("--compress")
