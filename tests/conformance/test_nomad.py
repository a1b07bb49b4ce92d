"""The calls of Nomad's docker driver, in its order: the life of a task, and what is found after a restart."""

import contextlib
import json
import os
import threading
import time
from typing import Any

import pytest

from tests.integration.client import Reply, read_to_end, unframed
from tests.integration.engines import Engine, wait_for

V = "/v1.47"
ALLOCATION = "3a1f5a6e-0c4b-9d0e-8f7a-0d9f8b7c6a5e"
NAME = f"web-{ALLOCATION}"
LABELS = {"com.hashicorp.nomad.alloc_id": ALLOCATION, "com.hashicorp.nomad.task_name": "web"}


def task(engine: Engine, **host: Any) -> dict[str, Any]:
    """The body of the driver's create. The directories are the client's."""
    for directory in ("alloc", "local"):
        os.makedirs(f"{engine.root}/{directory}", exist_ok=True)
    return {
        "Image": "busybox:latest",
        "Cmd": ["sh", "-c", "echo started; echo sorry >&2; while true; do sleep 0.1; done"],
        "Env": ["NOMAD_ALLOC_DIR=/alloc", "NOMAD_PORT_http=8080"],
        "Labels": LABELS,
        "WorkingDir": "/local",
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "ExposedPorts": {"8080/tcp": {}, "8080/udp": {}},
        "HostConfig": {
            "Binds": [f"{engine.root}/alloc:/alloc", f"{engine.root}/local:/local:rprivate"],
            "Mounts": [
                {
                    "Type": "tmpfs",
                    "Target": "/scratch",
                    "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1777},
                },
                {"Type": "volume", "Source": "nomad-data", "Target": "/data", "ReadOnly": False},
            ],
            "Memory": 64 << 20,
            "MemoryReservation": 32 << 20,
            "MemorySwap": 64 << 20,
            "MemorySwappiness": None,
            "CpuShares": 500,
            "CpusetCpus": "0",
            "PidsLimit": 50,
            "ShmSize": 1 << 20,
            "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
            "CapAdd": ["NET_ADMIN"],
            "CapDrop": ["MKNOD"],
            "SecurityOpt": ["no-new-privileges"],
            "Sysctls": {"net.core.somaxconn": "77"},
            "ExtraHosts": ["elsewhere:192.0.2.9"],
            "Dns": ["192.0.2.53"],
            "OomScoreAdj": 10,
            "Init": True,
            "CgroupnsMode": "private",
            "LogConfig": {"Type": "json-file", "Config": {"max-file": "2", "max-size": "2m"}},
            "NetworkMode": "default",
            "PortBindings": {
                "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "23456"}],
                "8080/udp": [{"HostIp": "127.0.0.1", "HostPort": "23456"}],
            },
            **host,
        },
        "NetworkingConfig": {"EndpointsConfig": {}},
    }


class Wait:
    """The call that is held for the whole life of the container."""

    def __init__(self, engine: Engine, id: str) -> None:
        self.reply: Reply | None = None

        def call() -> None:
            with contextlib.suppress(OSError):
                self.reply = engine.client.post(f"{V}/containers/{id}/wait", condition="not-running")

        self._thread = threading.Thread(target=call, daemon=True)
        self._thread.start()

    def code(self) -> int:
        self._thread.join(30)
        assert self.reply is not None and self.reply.status == 200, self.reply
        return int(self.reply.json()["StatusCode"])


def ended(reply: Reply, *statuses: int) -> Reply:
    assert reply.status in statuses, reply
    return reply


def test_the_fingerprint(engine: Engine) -> None:
    version = engine.client.get("/version").json()
    assert version["Os"] == "linux" and version["Arch"] == "amd64" and version["Version"][0].isdigit()
    assert version["Platform"]["Name"]
    assert {"Name", "Version"} <= version["Components"][0].keys()
    info = engine.client.get(f"{V}/info").json()
    assert info["DefaultRuntime"] in info["Runtimes"]
    assert info["OSType"] == "linux" and info["CgroupVersion"] in ("1", "2") and info["MemTotal"] > 0
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    (bridge,) = (n for n in engine.client.get(f"{V}/networks").json() if n["Name"] == "bridge")
    assert bridge["IPAM"]["Config"][0]["Gateway"]


def test_a_task_s_life(engine: Engine) -> None:
    api = engine.client
    try:
        assert api.get(f"{V}/images/no-such:1/json").status == 404
        assert api.get(f"{V}/images/busybox:latest/json").json()["Id"].startswith("sha256:")
        id = ended(api.post(f"{V}/containers/create", task(engine), name=NAME), 201).json()["Id"]

        # a second try after a lost answer: the conflict names the container, and the list finds it
        conflict = ended(api.post(f"{V}/containers/create", task(engine), name=NAME), 409).json()["message"]
        assert f'The container name "/{NAME}" is already in use by container' in conflict and id in conflict
        assert [
            c["Id"] for c in api.get(f"{V}/containers/json", all=1).json() if f"/{NAME}" in c["Names"]
        ] == [id]

        ended(api.post(f"{V}/containers/{id}/start"), 204)
        ended(api.post(f"{V}/containers/{id}/start"), 304)
        seen = api.get(f"{V}/containers/{id}/json").json()
        assert seen["State"]["Running"] and seen["State"]["Pid"] > 0 and not seen["State"]["OOMKilled"]
        assert seen["NetworkSettings"]["Ports"]["8080/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "23456"}]
        address = seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        assert address and address == seen["NetworkSettings"]["IPAddress"]
        links = engine.run("nsenter", f"--net={seen['NetworkSettings']['SandboxKey']}", "ip", "-br", "addr")
        assert address in links.ok()
        held = Wait(engine, id)

        # docklog: both streams, with times, from now on
        lines = api.get(f"{V}/containers/{id}/logs", stdout=1, stderr=1, timestamps=1, since=0).body
        said = unframed(lines)
        assert said[1].endswith(b"Z started\n") and said[2].endswith(b"Z sorry\n"), said

        # stats: not one-shot, so there is a reading before the reading
        stats = api.get(f"{V}/containers/{id}/stats", stream=False).json()
        assert stats["precpu_stats"]["system_cpu_usage"] > 0
        assert (
            stats["cpu_stats"]["cpu_usage"]["total_usage"]
            >= stats["precpu_stats"]["cpu_usage"]["total_usage"]
        )
        assert stats["memory_stats"]["usage"] > 0 and stats["memory_stats"]["limit"] == 64 << 20
        assert {"cache", "rss"} <= stats["memory_stats"]["stats"].keys() or (
            {"file", "anon"} <= stats["memory_stats"]["stats"].keys()
        )
        assert stats["networks"]["eth0"]["tx_bytes"] >= 0 and stats["pids_stats"]["limit"] == 50

        # `nomad alloc exec`
        wish = {
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": False,
            "Cmd": ["sh", "-c", "echo in; exit 3"],
        }
        exec_id = ended(api.post(f"{V}/containers/{id}/exec", wish), 201).json()["Id"]
        stream, kind = api.stream(f"{V}/exec/{exec_id}/start", {"Tty": False})
        assert kind == "application/vnd.docker.multiplexed-stream"
        assert unframed(read_to_end(stream)) == {1: b"in\n"}
        assert api.get(f"{V}/exec/{exec_id}/json").json()["ExitCode"] == 3

        # a signal, then the end: `kill_timeout` is the client's own business
        ended(api.post(f"{V}/containers/{id}/kill", signal="SIGUSR1"), 204)
        ended(
            api.post(f"{V}/containers/{id}/stop", t=1), 204, 304
        )  # it may have ended of that signal already
        ended(api.post(f"{V}/containers/{id}/stop", t=0), 304)
        assert held.code() in (138, 143, 137)
        ended(api.post(f"{V}/containers/{id}/kill", signal="SIGKILL"), 409)
        assert ended(api.get(f"{V}/containers/{id}/json"), 200).json()["State"]["Running"] is False
        ended(api.delete(f"{V}/containers/{id}", force=1, v=1), 204)
        ended(api.post(f"{V}/containers/{id}/stop", t=0), 404)
        ended(api.delete(f"{V}/containers/{id}", force=1), 404)
    finally:
        api.delete(f"{V}/containers/{NAME}", force=1)
        api.delete(f"{V}/volumes/nomad-data")


def test_a_task_that_ends_by_itself_or_takes_too_much(engine: Engine) -> None:
    api = engine.client
    for command, memory, code, out_of_memory in (
        (["sh", "-c", "exit 7"], 0, 7, False),
        (["sh", "-c", "x=a; while true; do x=$x$x; done"], 16 << 20, 137, True),
    ):
        body = {"Image": "busybox", "Cmd": command, "HostConfig": {"Memory": memory, "MemorySwap": memory}}
        id = ended(api.post(f"{V}/containers/create", body), 201).json()["Id"]
        held = Wait(
            engine, id
        )  # `not-running` would answer at once for one that was only made: as Docker's does
        assert held.code() == 0
        ended(api.post(f"{V}/containers/{id}/start"), 204)
        assert Wait(engine, id).code() == code
        state = api.get(f"{V}/containers/{id}/json").json()["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (code, out_of_memory)
        ended(api.delete(f"{V}/containers/{id}", force=1), 204)


@pytest.mark.parametrize("mode", ["none", "bridge"])
def test_a_group_shares_the_network_of_its_pause_container(engine: Engine, mode: str) -> None:
    api = engine.client
    pause = {
        "Image": "busybox",
        "Cmd": ["sleep", "600"],
        "Hostname": "group",
        "Labels": LABELS,
        "HostConfig": {"NetworkMode": mode, "RestartPolicy": {"Name": "unless-stopped"}},
    }
    made = api.post(f"{V}/containers/create", pause, name=f"nomad_init_{ALLOCATION}")
    init = ended(made, 201).json()["Id"]
    ended(api.post(f"{V}/containers/{init}/start"), 204)
    key = api.get(f"{V}/containers/{init}/json").json()["NetworkSettings"]["SandboxKey"]
    assert key.startswith("/")
    # the client's CNI plugins work on that file
    engine.run("nsenter", f"--net={key}", "ip", "link", "add", "cni0", "type", "veth").ok()

    host = {"NetworkMode": f"container:{init}"}
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "ls /sys/class/net; hostname"], "HostConfig": host}
    id = ended(api.post(f"{V}/containers/create", body), 201).json()["Id"]
    ended(api.post(f"{V}/containers/{id}/start"), 204)
    assert Wait(engine, id).code() == 0
    said = unframed(api.get(f"{V}/containers/{id}/logs", stdout=1).body)[1].split()
    assert b"cni0" in said and said[-1] == b"group"


def test_what_dangles_after_a_restart_of_the_client_is_found_and_removed(engine: Engine) -> None:
    api = engine.client
    for name, labels in (("mine", LABELS), ("other", {"other": "label"})):
        body = {"Image": "busybox", "Cmd": ["sleep", "600"], "Labels": labels}
        id = ended(api.post(f"{V}/containers/create", body, name=name), 201).json()["Id"]
        ended(api.post(f"{V}/containers/{id}/start"), 204)
    filters = json.dumps({"label": ["com.hashicorp.nomad.alloc_id"]})
    (found,) = api.get(f"{V}/containers/json", filters=filters).json()
    assert found["Labels"] == LABELS and found["State"] == "running" and found["Names"] == ["/mine"]
    assert found["Created"] <= time.time() + 1
    held = Wait(engine, found["Id"])
    wait_for(lambda: api.get(f"{V}/containers/mine/json").json()["State"]["Running"], 5, lambda: "ended")
    ended(api.delete(f"{V}/containers/{found['Id']}", force=1, v=1), 204)
    assert held.code() == 137


def test_images_of_the_cleaner(engine: Engine, busybox_archive: bytes) -> None:
    api = engine.client
    loaded = ended(api.post(f"{V}/images/load", busybox_archive, quiet=1), 200)
    assert b"Loaded image: busybox:latest" in loaded.body
    ended(api.post(f"{V}/images/busybox/tag", repo="nomad-image", tag="1"), 201)
    body = {"Image": "nomad-image:1", "Cmd": ["sleep", "600"]}
    id = ended(api.post(f"{V}/containers/create", body), 201).json()["Id"]
    ended(api.delete(f"{V}/containers/{id}", force=1), 204)
    ended(api.delete(f"{V}/images/nomad-image:1"), 200)
    ended(api.delete(f"{V}/images/nomad-image:1"), 404)
    assert "No such image" in ended(api.post(f"{V}/containers/create", body), 404).json()["message"]
