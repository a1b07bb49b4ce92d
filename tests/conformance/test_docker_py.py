"""The `docker` package of PyPI, unmodified, drives containers, images, volumes, networks and events."""

import io
import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

from tests.integration.engines import Engine


@pytest.fixture
def client(engine: Engine) -> Iterator[Any]:
    made = docker.DockerClient(base_url=f"unix://{engine.socket}", version="auto", timeout=60)
    yield made
    made.close()


def test_the_version_is_negotiated(client: Any) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.51"
    assert client.api.api_version == "1.51"
    assert client.info()["Driver"] == "overlay2"


def test_running(client: Any) -> None:
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    with pytest.raises(ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo sorry >&2; exit 4"], remove=True)
    assert failed.value.exit_status == 4
    assert failed.value.stderr == b"sorry\n"


def test_a_container_s_life(client: Any) -> None:
    made = client.containers.create(
        "busybox", ["sleep", "600"], name="web", labels={"a": "b"}, mem_limit="64m"
    )
    assert made.status == "created"
    made.start()
    made.reload()
    assert made.status == "running"
    assert [c.name for c in client.containers.list(filters={"label": "a=b"})] == ["web"]
    assert made.attrs["HostConfig"]["Memory"] == 64 << 20
    code, output = made.exec_run(["sh", "-c", "echo out; echo err >&2; exit 2"], demux=True)
    assert (code, output) == (2, (b"out\n", b"err\n"))
    assert made.top()["Titles"][:2] == ["UID", "PID"]
    assert made.stats(stream=False)["pids_stats"]["current"] == 1
    made.pause()
    made.unpause()
    made.rename("site")
    made.stop(timeout=0)
    assert made.wait()["StatusCode"] == 137
    made.remove()
    with pytest.raises(NotFound):
        client.containers.get("site")


def test_logs(client: Any) -> None:
    made = client.containers.run(
        "busybox", ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], detach=True
    )
    assert b"".join(made.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    assert made.logs(tail=1) == b"3\n"
    for _ in range(5):
        assert made.attach(stream=False, logs=True) == b"1\n2\n3\n"


def test_attached_sockets(client: Any) -> None:
    made = client.containers.create("busybox", "cat", stdin_open=True)
    stream = made.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    made.start()
    stream._sock.sendall(b"typed\n")
    assert stream._sock.recv(100).endswith(b"typed\n")
    stream.close()
    made.remove(force=True)


def test_images(client: Any, busybox_archive: bytes) -> None:
    (image,) = client.images.load(busybox_archive)
    assert image.tags == ["busybox:latest"]
    assert image.tag("shelf/box", "1")
    assert "shelf/box:1" in client.images.get("busybox").tags
    client.images.remove("shelf/box:1")
    with pytest.raises(ImageNotFound):
        client.images.get("shelf/box:1")
    assert image.history()[-1]["CreatedBy"] == "busybox"
    loaded = io.BytesIO(b"this is no archive, whatever its name")
    with pytest.raises((APIError, docker.errors.ImageLoadError)):
        client.images.load(loaded)


def test_volumes(client: Any) -> None:
    volume = client.volumes.create("data", labels={"a": "b"})
    mount = {"data": {"bind": "/data", "mode": "rw"}}
    client.containers.run("busybox", ["sh", "-c", "echo kept > /data/x"], volumes=mount, remove=True)
    assert client.containers.run("busybox", "cat /data/x", volumes=mount, remove=True) == b"kept\n"
    assert [v.name for v in client.volumes.list(filters={"label": "a"})] == ["data"]
    volume.remove()
    with pytest.raises(NotFound):
        client.volumes.get("data")


def test_networks(client: Any) -> None:
    network = client.networks.create("town", driver="bridge")
    try:
        made = client.containers.run("busybox", ["sleep", "600"], name="web", network="town", detach=True)
        found = client.containers.run("busybox", "nslookup web", network="town", remove=True)
        assert b"Address" in found
        network.reload()
        assert [c.name for c in network.containers] == ["web"]
        network.disconnect(made)
        network.connect(made, aliases=["site"])
        made.remove(force=True)
    finally:
        network.remove()


def test_events(client: Any) -> None:
    since = time.time()
    client.containers.run("busybox", "true", name="short", remove=True)
    told = client.events(since=since, until=time.time() + 0.2, filters={"container": "short"}, decode=True)
    actions = [event["Action"] for event in told]
    assert [a for a in actions if a in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_what_is_not_done_is_said(client: Any) -> None:
    with pytest.raises(APIError) as refused:
        client.swarm.init()
    assert refused.value.status_code in (501, 503)
    with pytest.raises(APIError) as refused:
        client.services.list()
    assert refused.value.status_code == 503
