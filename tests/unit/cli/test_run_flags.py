"""cli/run_flags.py: flag lines and what Docker sends for them, as recorded from docker 28."""

import os
from collections.abc import Sequence
from typing import Any

import pytest

from skiff.cli.flags import FlagError, parse
from skiff.cli.run import COMMANDS
from skiff.cli.run_flags import RunError, RunWish, wish
from skiff.cli.run_values import Surroundings

FILES = {
    "/env": "A=1\n#c\n  B=2  \nHOME\nNOPE\n",
    "/bad": "A B=2\n",
    "/nameless": "A\n=2\n",
    "/labels": "l=m\n",
    "/seccomp.json": '{"defaultAction": "SCMP_ACT_ALLOW"}',
}


def read(path: str) -> str:
    if path not in FILES:
        raise FileNotFoundError(2, os.strerror(2), path)
    return FILES[path]


def asked(*argv: str, detach: bool = False) -> RunWish:
    flags = parse(COMMANDS["run"], "run", argv)
    around = Surroundings(cwd="/tmp", home="/root", environment={"HOME": "/root"}, read=read)
    return wish(flags, around, detach=detach)


def body(*argv: str, detach: bool = False) -> dict[str, Any]:
    return asked(*argv, "busybox", detach=detach).body


def host(*argv: str) -> dict[str, Any]:
    found: dict[str, Any] = body(*argv)["HostConfig"]
    return found


def test_the_plainest_run() -> None:
    plain = asked("busybox", "true", "-x").body
    assert plain["Cmd"] == ["true", "-x"]
    assert (plain["AttachStdin"], plain["AttachStdout"], plain["AttachStderr"]) == (False, True, True)
    assert plain["Entrypoint"] is None and plain["Env"] is None
    assert plain["NetworkingConfig"] == {"EndpointsConfig": {}}
    assert plain["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert plain["HostConfig"]["NetworkMode"] == "default"
    assert "Init" not in plain["HostConfig"] and "Healthcheck" not in plain


def test_streams() -> None:
    interactive = body("-i", "-a", "stderr")
    assert not interactive["AttachStdin"] or interactive["OpenStdin"]
    detached = body("-d", "-it", detach=True)
    assert (detached["AttachStdout"], detached["OpenStdin"], detached["StdinOnce"]) == (False, True, False)
    piped = body("-i")
    assert (piped["AttachStdin"], piped["StdinOnce"]) == (True, True)


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["-v", "./x:/y:ro", "-v", "vol:/z"], "Binds", ["/tmp/x:/y:ro", "vol:/z"]),
        (["-v", "~/x:/y", "-v", "../c:/d", "-v", ".:/e"], "Binds", ["/root/x:/y", "/c:/d", "/tmp:/e"]),
        (["--tmpfs", "/t:size=1m", "--tmpfs", "/q"], "Tmpfs", {"/t": "size=1m", "/q": ""}),
        (["-m", "64m"], "Memory", 67108864),
        (["--memory-swap", "-1"], "MemorySwap", -1),
        (["--cpus", "1.5"], "NanoCpus", 1500000000),
        (["--cpus", ".5"], "NanoCpus", 500000000),
        (["--pids-limit", "-1"], "PidsLimit", -1),
        (
            ["--ulimit", "nofile=10:20", "--ulimit", "core=-1"],
            "Ulimits",
            [{"Name": "core", "Hard": -1, "Soft": -1}, {"Name": "nofile", "Hard": 20, "Soft": 10}],
        ),
        (
            ["--device-read-bps", "/dev/sda:1mb"],
            "BlkioDeviceReadBps",
            [{"Path": "/dev/sda", "Rate": 1 << 20}],
        ),
        (["--device-write-iops", "/dev/sda:5"], "BlkioDeviceWriteIOps", [{"Path": "/dev/sda", "Rate": 5}]),
        (["--blkio-weight-device", "/dev/sda:10"], "BlkioWeightDevice", [{"Path": "/dev/sda", "Weight": 10}]),
        (["--sysctl", "net.a=b"], "Sysctls", {"net.a": "b"}),
        (["--restart", "on-failure:3"], "RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 3}),
        (["--cap-add", "all", "--cap-add", "x"], "CapAdd", ["ALL"]),
        (["--cap-drop", "net_raw"], "CapDrop", ["CAP_NET_RAW"]),
        (
            ["--add-host", "a:1.2.3.4", "--add-host", "b=host-gateway"],
            "ExtraHosts",
            ["a:1.2.3.4", "b:host-gateway"],
        ),
        (["--init=false"], "Init", False),
        (
            ["--log-driver", "json-file", "--log-opt", "a=b"],
            "LogConfig",
            {"Type": "json-file", "Config": {"a": "b"}},
        ),
        (["--security-opt", "no-new-privileges"], "SecurityOpt", ["no-new-privileges"]),
        (["--security-opt", "seccomp=/seccomp.json"], "SecurityOpt", ["seccomp=" + FILES["/seccomp.json"]]),
        (["--security-opt", "systempaths=unconfined"], "MaskedPaths", []),
        (
            ["--device", "/dev/null:/dev/x:r", "--device", "/dev/zero"],
            "Devices",
            [
                {"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"},
                {"PathOnHost": "/dev/zero", "PathInContainer": "/dev/zero", "CgroupPermissions": "rwm"},
            ],
        ),
        (["--network", "foo"], "NetworkMode", "foo"),
        (["--net", "host"], "NetworkMode", "host"),
        (["--link", "a", "--link", "b:c"], "Links", ["a", "b:c"]),
    ],
)
def test_host_config(argv: Sequence[str], key: str, value: object) -> None:
    assert host(*argv)[key] == value


def test_ports() -> None:
    sent = body(
        "-p",
        "80",
        "-p",
        "8080:81",
        "-p",
        "127.0.0.1:9000-9001:90-91/udp",
        "-p",
        "[::1]::70",
        "--expose",
        "5-6",
    )
    assert set(sent["ExposedPorts"]) == {"5/tcp", "6/tcp", "70/tcp", "80/tcp", "81/tcp", "90/udp", "91/udp"}
    assert sent["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": ""}],
        "81/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "90/udp": [{"HostIp": "127.0.0.1", "HostPort": "9000"}],
        "91/udp": [{"HostIp": "127.0.0.1", "HostPort": "9001"}],
        "70/tcp": [{"HostIp": "::1", "HostPort": ""}],
    }


def test_the_long_form_of_a_network() -> None:
    sent = body(
        "--network",
        "name=foo,alias=bar,ip=1.2.3.4,mac-address=aa:bb:cc:dd:ee:ff,driver-opt=a=b",
        "--network",
        "b2",
    )
    assert sent["NetworkingConfig"]["EndpointsConfig"] == {
        "foo": {
            "IPAMConfig": {"IPv4Address": "1.2.3.4"},
            "Aliases": ["bar"],
            "MacAddress": "aa:bb:cc:dd:ee:ff",
            "DriverOpts": {"a": "b"},
        },
        "b2": {},
    }


def test_mounts() -> None:
    assert host(
        "--mount", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared",
        "--mount", "type=volume,dst=/q,volume-nocopy",
        "--mount", "type=tmpfs,target=/tt,tmpfs-size=10m,tmpfs-mode=1777",
        "--mount", "src=x,dst=/y",
    )["Mounts"] == [
        {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True,
         "BindOptions": {"Propagation": "rshared"}},
        {"Type": "volume", "Target": "/q", "VolumeOptions": {"NoCopy": True, "DriverConfig": {}}},
        {"Type": "tmpfs", "Target": "/tt", "TmpfsOptions": {"SizeBytes": 10485760, "Mode": 0o1777}},
        {"Type": "volume", "Source": "x", "Target": "/y"},
    ]  # fmt: skip


def test_environment_and_labels() -> None:
    sent = body(
        "--env-file", "/env", "-e", "X=1", "-e", "HOME", "-e", "NOPE", "--label-file", "/labels", "-l", "c"
    )
    assert sent["Env"] == ["A=1", "B=2  ", "HOME=/root", "X=1", "HOME=/root", "NOPE"]
    assert sent["Labels"] == {"l": "m", "c": ""}


def test_health() -> None:
    assert body("--health-cmd", "x y", "--health-interval", "5s", "--health-retries", "3")["Healthcheck"] == {
        "Test": ["CMD-SHELL", "x y"],
        "Interval": 5000000000,
        "Retries": 3,
    }
    assert body("--no-healthcheck")["Healthcheck"] == {"Test": ["NONE"]}


def test_the_rest_of_the_container() -> None:
    sent = asked(
        "--name", "n", "--platform", "linux/amd64", "--entrypoint", "", "--stop-timeout", "0", "busybox"
    )
    assert (sent.name, sent.platform) == ("n", "linux/amd64")
    assert (sent.body["Entrypoint"], sent.body["StopTimeout"]) == ([""], 0)
    assert body("-v", "/anon")["Volumes"] == {"/anon": {}}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-p", "abc"], "invalid containerPort: abc"),
        (["-p", "99999:80"], "invalid hostPort: 99999"),
        (["-p", "80:80/foo"], "invalid proto: foo"),
        (["-p", "1-3:1-2"], "invalid ranges specified for container and host Ports: 1-2 and 1-3"),
        (["-p", "1.2.3:80:80"], "invalid IP address: 1.2.3"),
        (
            ["--expose", "a"],
            'invalid range format for --expose: a, error: strconv.ParseUint: parsing "a": invalid syntax',
        ),
        (["--rm", "--restart", "always"], "conflicting options: cannot specify both --restart and --rm"),
        (
            ["--restart", "on-failure:x"],
            "invalid restart policy format: maximum retry count must be an integer",
        ),
        (["--device", "a:b:c:d"], "bad format for path: a:b:c:d"),
        (["--device", "/a:/b:q"], "bad mode specified: q"),
        (["--health-cmd", "x", "--no-healthcheck"], "--no-healthcheck conflicts with --health-* options"),
        (["--health-interval", "-1s"], "--health-interval cannot be negative"),
        (["--memory-swappiness", "200"], "invalid value: 200. Valid memory swappiness range is 0-100"),
        (["--env-file", "/nonexist"], "open /nonexist: no such file or directory"),
        (["--env-file", "/bad"], "invalid env file (/bad): variable 'A B' contains whitespaces"),
        (["--env-file", "/nameless"], "invalid env file (/nameless): no variable name on line '=2'"),
        (
            ["--security-opt", "seccomp=/nonexist"],
            "opening seccomp profile (/nonexist) failed: open /nonexist: no such file or directory",
        ),
        (["--security-opt", "foo"], 'Invalid --security-opt: "foo"'),
        (["--log-driver", "none", "--log-opt", "a=b"], "invalid logging opts for driver none"),
        (["--pid", "foo"], "--pid: invalid PID mode"),
        (["--uts", "x"], "--uts: invalid UTS mode"),
        (["--userns", "x"], "--userns: invalid USER mode"),
        (["--cgroupns", "x"], "--cgroupns: invalid CGROUP mode"),
        (["--storage-opt", "x"], "invalid storage option"),
        (["--mac-address", "x"], "x is not a valid mac address"),
        (["-v", ""], "invalid empty volume spec"),
        (["-v", "aa:"], "invalid spec: aa:: empty section between colons"),
        (["-v", "aa::/b"], "invalid spec: aa::/b: empty section between colons"),
        (["-v", ":/b"], "invalid spec: :/b: empty section between colons"),
        (["-v", "/a:/b:ro:x"], "invalid spec: /a:/b:ro:x: too many colons"),
        (["--pull", "foo"], """invalid pull option: 'foo': must be one of "always", "missing" or "never\""""),
        (
            ["--network", "container:x", "--network-alias", "b"],
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (["--gpus", "all"], "--gpus: device requests need a GPU driver, which skiff does not have"),
    ],
)
def test_what_does_not_fit(argv: list[str], message: str) -> None:
    with pytest.raises(RunError) as caught:
        body(*argv)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--ulimit", "x"], '"x" for "--ulimit" flag: invalid ulimit argument: x'),
        (["--ulimit", "foo=1"], "invalid ulimit type: foo"),
        (["--ulimit", "nofile=20:10"], "ulimit soft limit must be less than or equal to hard limit: 20 > 10"),
        (["--cpus", "x"], "failed to parse x as a rational number"),
        (["--cpus", "0.0000000001"], "value is too precise"),
        (["--sysctl", "a=b"], "sysctl 'a=b' is not allowed"),
        (["--mount", "foo"], "invalid field 'foo' must be a key=value pair"),
        (["--mount", "type=bind,src=/a"], "target is required"),
        (["--mount", "type=bind,src=/a,dst=/b,zz=1"], "unexpected key 'zz' in 'zz=1'"),
        (["--mount", "type=bind,src=/a,dst=/b,readonly=foo"], "invalid value for readonly: foo"),
        (
            ["--mount", "type=bind,src=/a,dst=/b,volume-nocopy"],
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        (["--add-host", "foo"], 'bad format for add-host: "foo"'),
        (["--add-host", "foo:bar"], 'invalid IP address in add-host: "bar"'),
        (["--dns", "x"], "IP address is not correctly formatted: x"),
        (["--network", "name=a,foo=b"], "invalid field key foo"),
        (["-a", "foo"], '"foo" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'),
        (["--link", "a:b:c"], "bad format for links: a:b:c"),
        (["-e", "=x"], 'invalid argument "=x" for "-e, --env" flag: invalid environment variable: =x'),
        (["--device-cgroup-rule", "x"], "invalid device cgroup format 'x'"),
        (["--device-read-bps", "x"], "bad format: x"),
    ],
)
def test_values_that_cannot_be(argv: list[str], reason: str) -> None:
    with pytest.raises(FlagError) as caught:
        body(*argv)
    assert str(caught.value).endswith(reason)


def test_real_time() -> None:
    asked = host("--cpu-rt-period", "1000000", "--cpu-rt-runtime", "1000")
    assert (asked["CpuRealtimePeriod"], asked["CpuRealtimeRuntime"]) == (1000000, 1000)
