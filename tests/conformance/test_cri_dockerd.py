"""The calls by which Kubernetes reaches an engine through cri-dockerd: a pod, its containers, their logs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_nomad import Wait, ended
from tests.integration.client import read_to_end, unframed
from tests.integration.engines import Engine, wait_for

V = "/v1.43"
POD = {
    "io.kubernetes.pod.name": "web-0",
    "io.kubernetes.pod.namespace": "default",
    "io.kubernetes.pod.uid": "8e2f4b7e",
    "io.cri-containerd.kind": "sandbox",
}
PAUSE = "k8s_POD_web-0_default_8e2f4b7e_0"


@pytest.fixture
def pod(engine: Engine) -> Iterator[str]:
    """The sandbox's id, running."""
    body = {
        "Hostname": "web-0",
        "Image": "busybox",
        "Cmd": ["sleep", "600"],
        "Labels": {**POD, "io.kubernetes.docker.type": "podsandbox"},
        "HostConfig": {
            "NetworkMode": "none",
            "IpcMode": "shareable",
            "CgroupParent": f"{engine.cgroup}/kubepods/pod8e2f",
            "OomScoreAdj": -998,
            "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
            "PortBindings": {},
            "CpuShares": 2,
        },
    }
    id = ended(engine.client.post(f"{V}/containers/create", body, name=PAUSE), 201).json()["Id"]
    ended(engine.client.post(f"{V}/containers/{id}/start"), 204)
    yield str(id)
    engine.client.delete(f"{V}/containers/{id}", force=True)
    for path, _, _ in [entry for top in cgroups(engine) for entry in os.walk(top, topdown=False)]:
        os.rmdir(path)  # as the kubelet does, whose the groups of pods are


def cgroups(engine: Engine) -> list[str]:
    """The kubelet's groups, in every hierarchy."""
    return [str(path) for path in Path("/sys/fs/cgroup").glob(f"*{engine.cgroup}/kubepods")] + [
        str(path) for path in Path("/sys/fs/cgroup").glob(f"{engine.cgroup[1:]}/kubepods")
    ]


def member(pod: str, command: list[str], **more: Any) -> dict[str, Any]:
    """The body of the create of a container of that pod."""
    host = {
        "NetworkMode": f"container:{pod}",
        "IpcMode": f"container:{pod}",
        "PidMode": f"container:{pod}",
        "LogConfig": {"Type": "json-file"},
        "Memory": 64 << 20,
        "MemorySwap": 64 << 20,
        "CpuQuota": 50000,
        "CpuPeriod": 100000,
        "CpuShares": 512,
        "MaskedPaths": ["/proc/keys"],
        "ReadonlyPaths": ["/proc/sys"],
    }
    labels = {**POD, "io.kubernetes.docker.type": "container", "io.kubernetes.container.name": "app"}
    return {"Image": "busybox", "Entrypoint": command, "Labels": labels, "HostConfig": host, **more}


def test_the_node(engine: Engine) -> None:
    version = engine.client.get("/version").json()
    assert tuple(map(int, version["ApiVersion"].split("."))) >= (1, 43)
    assert tuple(map(int, version["MinAPIVersion"].split("."))) <= (1, 43)
    info = engine.client.get(f"{V}/info").json()
    assert info["CgroupDriver"] == "cgroupfs"  # the kubelet must be told the same
    for field in (
        "CgroupVersion",
        "Runtimes",
        "SecurityOptions",
        "DockerRootDir",
        "OperatingSystem",
        "Driver",
    ):
        assert info[field], field
    assert os.path.isdir(info["DockerRootDir"])


def test_a_pod_from_start_to_end(engine: Engine, pod: str, tmp_path: Path) -> None:
    api = engine.client
    seen = api.get(f"{V}/containers/{pod}/json").json()
    # the shim gives CNI the namespace of the pause container, and writes its resolv.conf in place
    assert os.path.exists(f"/proc/{seen['State']['Pid']}/ns/net")
    assert seen["NetworkSettings"]["IPAddress"] == ""
    Path(seen["ResolvConfPath"]).write_text("nameserver 192.0.2.53\noptions ndots:5\n")
    assert seen["HostConfig"]["CgroupParent"] == f"{engine.cgroup}/kubepods/pod8e2f"
    group = Path(f"/proc/{seen['State']['Pid']}/cgroup").read_text()
    assert f"{engine.cgroup}/kubepods/pod8e2f/{pod}" in group

    script = "cat /etc/resolv.conf; hostname; ls /sys/class/net; ps | grep -c '[s]leep 600'; exec sleep 500"
    body = member(pod, ["sh", "-c", script])
    made = ended(api.post(f"{V}/containers/create", body, name="k8s_app_web-0_default_8e2f4b7e_0"), 201)
    id = made.json()["Id"]
    conflict = api.post(f"{V}/containers/create", body, name="k8s_app_web-0_default_8e2f4b7e_0")
    assert (
        'Conflict. The container name "/k8s_app_web-0_default_8e2f4b7e_0" is already in use by container'
        in (ended(conflict, 409).json()["message"])
    )
    ended(api.post(f"{V}/containers/{id}/start"), 204)
    wait_for(
        lambda: api.get(f"{V}/containers/{id}/logs", stdout=1).body.count(b"\n") >= 5, 10, lambda: "no output"
    )
    said = unframed(api.get(f"{V}/containers/{id}/logs", stdout=1).body)[1].decode().split("\n")
    assert said[:5] == ["nameserver 192.0.2.53", "options ndots:5", "web-0", "lo", "1"]

    # the kubelet reads the log through a link to the engine's own file
    log = api.get(f"{V}/containers/{id}/json").json()["LogPath"]
    (tmp_path / "0.log").symlink_to(log)
    first = json.loads((tmp_path / "0.log").read_text().split("\n")[0])
    assert first["log"] == "nameserver 192.0.2.53\n" and first["stream"] == "stdout" and first["time"]

    listed = api.get(
        f"{V}/containers/json", all=1, filters={"label": ["io.kubernetes.docker.type=container"]}
    )
    (row,) = listed.json()
    assert row["Status"].startswith("Up ") and row["State"] == "running"
    assert row["Labels"]["io.kubernetes.pod.uid"] == "8e2f4b7e"

    # exec: with the exit code afterwards; a command that is not there is told apart
    for command, code in ((["sh", "-c", "echo in; exit 5"], 5), (["no-such"], 127)):
        wish = {"AttachStdout": True, "AttachStderr": True, "Cmd": command}
        exec_id = ended(api.post(f"{V}/containers/{id}/exec", wish), 201).json()["Id"]
        if code == 5:
            stream, _ = api.stream(f"{V}/exec/{exec_id}/start", {"Detach": False, "Tty": False})
            assert unframed(read_to_end(stream)) == {1: b"in\n"}
        else:
            ended(api.post(f"{V}/exec/{exec_id}/start", {"Detach": True}), 400)
        exited = api.get(f"{V}/exec/{exec_id}/json").json()
        assert (exited["Running"], exited["ExitCode"], exited["ContainerID"]) == (False, code, id)

    # in-place resize of the pod
    ended(
        api.post(
            f"{V}/containers/{id}/update", {"CpuQuota": 25000, "Memory": 96 << 20, "MemorySwap": 96 << 20}
        ),
        200,
    )
    assert api.get(f"{V}/containers/{id}/json").json()["HostConfig"]["CpuQuota"] == 25000
    stats = api.get(f"{V}/containers/{id}/stats", stream=False).json()
    assert stats["memory_stats"]["limit"] == 96 << 20

    held = Wait(engine, id)
    ended(api.post(f"{V}/containers/{id}/stop", t=0), 204)
    assert held.code() == 143  # the pause container is process 1 here: SIGTERM is not ignored
    ended_at = api.get(f"{V}/containers/{id}/json", size=1).json()
    assert ended_at["SizeRw"] >= 0 and ended_at["State"]["FinishedAt"] > ended_at["State"]["StartedAt"]
    (row,) = api.get(f"{V}/containers/json", all=1, filters={"status": ["exited"]}).json()
    assert row["Status"].startswith("Exited (143)")
    ended(api.delete(f"{V}/containers/{id}", v=1, force=1), 204)
    ended(api.post(f"{V}/containers/{pod}/stop", t=0), 204)


def test_images(engine: Engine) -> None:
    api = engine.client
    (image,) = api.get(f"{V}/images/json", filters={"reference": ["busybox"]}).json()
    seen = api.get(f"{V}/images/{image['Id']}/json").json()
    assert seen["Id"] == image["Id"] and seen["RepoTags"] == ["busybox:latest"]
    assert isinstance(seen["RepoDigests"], list) and seen["Config"]["User"] == ""
    assert api.get(f"{V}/images/{image['Id']}/history").json()[0]["CreatedBy"]
    missing = ended(api.get(f"{V}/images/no-such:1/json"), 404).json()["message"]
    assert missing == "No such image: no-such:1"
    ended(api.delete(f"{V}/images/no-such:1"), 404)


def test_attached_with_a_terminal(engine: Engine, pod: str) -> None:
    api = engine.client
    body = member(pod, ["sh"], Tty=True, OpenStdin=True, StdinOnce=False)
    id = ended(api.post(f"{V}/containers/create", body), 201).json()["Id"]
    ended(api.post(f"{V}/containers/{id}/start"), 204)
    stream, kind = api.stream(f"{V}/containers/{id}/attach", stream=1, stdin=1, stdout=1, stderr=1)
    assert kind == "application/vnd.docker.raw-stream"
    ended(api.post(f"{V}/containers/{id}/resize", h=33, w=77), 200)
    stream.sendall(b"stty size; exit 6\n")
    assert b"33 77" in read_to_end(stream)
    assert Wait(engine, id).code() == 6
    ended(api.delete(f"{V}/containers/{id}", force=1), 204)
