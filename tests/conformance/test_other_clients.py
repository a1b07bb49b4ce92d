"""What Traefik, Portainer, ctop and watchtower ask, in the versions of the API in which they ask it."""

import http.client
import json
import socket
import threading
import time
from typing import Any

from tests.integration.engines import Engine, wait_for


def start(engine: Engine, name: str, **body: Any) -> str:
    wish = {"Image": "busybox", "Cmd": ["sleep", "600"], **body}
    id: str = engine.client.post("/containers/create", wish, name=name).json()["Id"]
    assert engine.client.post(f"/containers/{id}/start").status == 204
    return id


def test_traefik_follows_containers(engine: Engine) -> None:
    """Its docker provider speaks 1.24: a list, an inspect of each, and the events that change them."""
    api, v = engine.client, "/v1.24"
    assert api.get(f"{v}/version").json()["Version"]
    labels = {"traefik.http.routers.web.rule": "Host(`web.example`)", "traefik.enable": "true"}
    events: list[dict[str, Any]] = []
    stopped = threading.Event()

    def follow() -> None:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(engine.socket)
        filters = json.dumps({"type": {"container": True}})  # as old clients write filters
        connection.request("GET", f"{v}/events?filters={filters.replace(' ', '')}")
        reply = connection.getresponse()
        for line in reply:
            events.append(json.loads(line))
            if stopped.is_set():
                break
        connection.close()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    time.sleep(0.2)
    id = start(engine, "web", Labels=labels, ExposedPorts={"80/tcp": {}})
    (listed,) = api.get(f"{v}/containers/json").json()
    assert (
        listed["Id"] == id and listed["Labels"] == labels and listed["HostConfig"]["NetworkMode"] == "bridge"
    )
    seen = api.get(f"{v}/containers/{id}/json").json()
    assert seen["Name"] == "/web" and "80/tcp" in seen["NetworkSettings"]["Ports"]
    assert seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == seen["NetworkSettings"]["IPAddress"]
    wait_for(lambda: any(e["Action"] == "start" for e in events), 10, lambda: repr(events))
    stopped.set()
    assert api.post(f"{v}/containers/{id}/kill").status == 204
    follower.join(10)
    begun = next(e for e in events if e["Action"] == "start")
    assert (begun["Type"], begun["status"], begun["id"]) == ("container", "start", id)  # as 1.21 had it
    assert begun["Actor"]["Attributes"]["traefik.enable"] == "true"


def test_portainer_looks_at_everything(engine: Engine) -> None:
    api, v = engine.client, "/v1.41"
    id = start(engine, "web", Labels={"com.docker.compose.project": "shop"})
    assert api.get(f"{v}/_ping").body == b"OK"
    for path, query in (
        ("/info", {}),
        ("/version", {}),
        ("/system/df", {}),
        ("/images/json", {"all": 1}),
        ("/volumes", {"filters": {"dangling": ["true"]}}),
        ("/networks", {}),
        ("/containers/json", {"all": 1, "size": 1}),
        (f"/containers/{id}/json", {}),
        (f"/containers/{id}/top", {}),
        (f"/containers/{id}/changes", {}),
        (f"/containers/{id}/stats", {"stream": "false"}),
        ("/images/busybox/json", {}),
        ("/images/busybox/history", {}),
        ("/events", {"since": 0, "until": int(time.time())}),
    ):
        reply = api.get(v + path, **query)
        assert reply.status == 200, (path, reply)
    # what needs a swarm says so, by the status that Portainer looks for
    for path in ("/services", "/nodes", "/tasks", "/secrets", "/configs", "/swarm"):
        assert api.get(v + path).status == 503, path
    assert api.get(f"{v}/plugins").json() == []
    df = api.get(f"{v}/system/df").json()
    assert {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"} <= df.keys()
    (row,) = api.get(f"{v}/containers/json", filters={"label": ["com.docker.compose.project=shop"]}).json()
    assert row["Names"] == ["/web"]
    # the console is a websocket
    wish = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": True, "Cmd": ["sh"]}
    made = api.post(f"{v}/containers/{id}/exec", wish).json()["Id"]
    stream, _ = api.stream(f"{v}/exec/{made}/start", {"Detach": False, "Tty": True})
    assert api.post(f"{v}/exec/{made}/resize", h=40, w=120).status in (200, 201)
    stream.sendall(b"stty size; exit\n")
    said = b""
    while data := stream.recv(4096):
        said += data
    assert b"40 120" in said


def test_ctop_streams_stats(engine: Engine) -> None:
    """One after another, each with the reading before it."""
    id = start(engine, "busy", Cmd=["sh", "-c", "while true; do :; done"])
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(engine.socket)
    connection.request("GET", f"/v1.40/containers/{id}/stats?stream=1")
    reply = connection.getresponse()
    first, second = (json.loads(reply.readline()) for _ in range(2))
    connection.close()
    assert second["precpu_stats"]["cpu_usage"] == first["cpu_stats"]["cpu_usage"]
    used = second["cpu_stats"]["cpu_usage"]["total_usage"] - first["cpu_stats"]["cpu_usage"]["total_usage"]
    passed = second["cpu_stats"]["system_cpu_usage"] - first["cpu_stats"]["system_cpu_usage"]
    assert 0 < used <= passed


def test_watchtower_makes_a_container_anew(engine: Engine) -> None:
    """It gives back to create what inspect said, under the old name, and connects the networks one by one."""
    api, v = engine.client, "/v1.44"
    assert api.post(f"{v}/networks/create", {"Name": "shop"}).status == 201
    try:
        old = start(
            engine,
            "web",
            Env=["A=b"],
            Labels={"com.centurylinklabs.watchtower.enable": "true"},
            HostConfig={"Binds": ["/tmp:/t:ro"], "NetworkMode": "shop", "RestartPolicy": {"Name": "always"}},
            NetworkingConfig={"EndpointsConfig": {"shop": {"Aliases": ["site"]}}},
        )
        seen = api.get(f"{v}/containers/{old}/json").json()
        assert api.post(f"{v}/containers/{old}/stop", t=0).status == 204
        assert api.delete(f"{v}/containers/{old}").status == 204
        networks = {"EndpointsConfig": seen["NetworkSettings"]["Networks"]}
        body = {**seen["Config"], "HostConfig": seen["HostConfig"], "NetworkingConfig": networks}
        made = api.post(f"{v}/containers/create", body, name="web")
        assert made.status == 201, made
        new = made.json()["Id"]
        assert api.post(f"{v}/containers/{new}/start").status == 204
        again = api.get(f"{v}/containers/{new}/json").json()
        assert again["Config"] == seen["Config"]
        assert again["HostConfig"] == seen["HostConfig"]
        assert "site" in again["NetworkSettings"]["Networks"]["shop"]["Aliases"]
    finally:
        api.delete("/containers/web", force=True)
        assert api.delete(f"{v}/networks/shop").status == 204
