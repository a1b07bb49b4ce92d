"""EngineClient: one method per endpoint of the Engine API that the command line uses.

Values are what JSON gives (dicts, lists), spelled as on the wire. No printing, no policy. Errors are those of
client/connection.py: EngineError (with the HTTP status), CannotConnect, PermissionDenied, BrokenReply.
Names and ids of containers, images, networks and volumes may be given as users type them.
"""

from __future__ import annotations

# What JSON gives is Any; the shapes named here are the wire's.
# mypy: disable-error-code="no-any-return"
from skiff.client.connection import Connection, Response, Stream, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skiff.client.connection import Pieces

    Json = dict[str, Any]
    Filters = dict[str, list[str]]


class EngineClient:
    """Speaks to one engine over one Connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def close(self) -> None:
        self.connection.close()

    # -- anything ------------------------------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> Any:
        """GET → the decoded body."""
        return self.connection.request("GET", path, query=query).json()

    def post(self, path: str, json: object = None, **query: Any) -> Any:
        """POST → the decoded body, None when there is none."""
        return self.connection.request("POST", path, json=json, query=query).json()

    def delete(self, path: str, **query: Any) -> Any:
        return self.connection.request("DELETE", path, query=query).json()

    # -- system --------------------------------------------------------------------------------------------

    def ping(self) -> dict[str, str]:
        """The headers of /_ping (lower-case): api-version, builder-version, …"""
        response = self.connection.request("GET", "/_ping", versioned=False)
        response.read()
        return response.headers

    def version(self) -> Json:
        return self.get("/version")

    def info(self) -> Json:
        return self.get("/info")

    def disk_usage(self, types: list[str] | None = None) -> Json:
        return self.get("/system/df", type=types)

    def events(
        self, *, since: str | None = None, until: str | None = None, filters: Filters | None = None
    ) -> Iterator[Json]:
        query = {"since": since, "until": until, "filters": filters or None}
        return self.connection.request("GET", "/events", query=query).lines()

    # -- containers ----------------------------------------------------------------------------------------

    def containers(
        self,
        *,
        all: bool = False,
        limit: int | None = None,
        size: bool = False,
        filters: Filters | None = None,
    ) -> list[Json]:
        return self.get(
            "/containers/json", all=all or None, limit=limit, size=size or None, filters=filters or None
        )

    def create_container(self, body: Json, *, name: str | None = None, platform: str | None = None) -> Json:
        """{"Id", "Warnings"}."""
        return self.post("/containers/create", body, name=name or None, platform=platform or None)

    def start_container(self, id: str, *, detach_keys: str | None = None) -> None:
        self.post(f"/containers/{quote(id)}/start", detachKeys=detach_keys or None)

    def container(self, id: str, *, size: bool = False) -> Json:
        """Inspect."""
        return self.get(f"/containers/{quote(id)}/json", size=size or None)

    def publish_ports(self, id: str, bindings: Json) -> None:
        """Add ports to a container, running or not. Not in Docker's API."""
        self.post(f"/skiff/containers/{quote(id)}/ports", {"PortBindings": bindings})

    def egress(self, id: str) -> Json:
        """Its policies by network, and the entries of its log. Not in Docker's API."""
        return self.get(f"/skiff/containers/{quote(id)}/egress")

    def unpublish_ports(self, id: str, bindings: Json) -> None:
        path = f"/skiff/containers/{quote(id)}/ports"
        self.connection.request("DELETE", path, json={"PortBindings": bindings}).read()

    def stop_container(self, id: str, *, timeout: int | None = None, signal: str | None = None) -> None:
        self.post(f"/containers/{quote(id)}/stop", t=timeout, signal=signal or None)

    def restart_container(self, id: str, *, timeout: int | None = None, signal: str | None = None) -> None:
        self.post(f"/containers/{quote(id)}/restart", t=timeout, signal=signal or None)

    def kill_container(self, id: str, *, signal: str | None = None) -> None:
        self.post(f"/containers/{quote(id)}/kill", signal=signal or None)

    def pause_container(self, id: str) -> None:
        self.post(f"/containers/{quote(id)}/pause")

    def unpause_container(self, id: str) -> None:
        self.post(f"/containers/{quote(id)}/unpause")

    def rename_container(self, id: str, name: str) -> None:
        self.post(f"/containers/{quote(id)}/rename", name=name)

    def update_container(self, id: str, body: Json) -> Json:
        return self.post(f"/containers/{quote(id)}/update", body)

    def remove_container(
        self, id: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        self.delete(f"/containers/{quote(id)}", force=force or None, v=volumes or None, link=link or None)

    def prune_containers(self, filters: Filters | None = None) -> Json:
        return self.post("/containers/prune", filters=filters or None)

    def wait_container(self, id: str, *, condition: str = "not-running") -> Response:
        """The response's head, which comes at once; `.json()` blocks until the exit: {"StatusCode",
        "Error"}.
        """
        query = {"condition": condition}
        return self.connection.request("POST", f"/containers/{quote(id)}/wait", query=query)

    def attach_container(
        self,
        id: str,
        *,
        stdin: bool = False,
        stdout: bool = False,
        stderr: bool = False,
        logs: bool = False,
        detach_keys: str | None = None,
    ) -> Stream:
        query = {
            "stream": True,
            "stdin": stdin or None,
            "stdout": stdout or None,
            "stderr": stderr or None,
            "logs": logs or None,
            "detachKeys": detach_keys or None,
        }
        return self.connection.hijack(f"/containers/{quote(id)}/attach", query=query)

    def resize_container(self, id: str, *, height: int, width: int) -> None:
        self.post(f"/containers/{quote(id)}/resize", h=height, w=width)

    def container_logs(
        self,
        id: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool = False,
        since: str | None = None,
        until: str | None = None,
        timestamps: bool = False,
        details: bool = False,
        tail: str = "all",
    ) -> Response:
        """Stdcopy frames, or raw bytes with a tty: read `.chunks()`."""
        query = {
            "stdout": stdout or None,
            "stderr": stderr or None,
            "follow": follow or None,
            "since": since or None,
            "until": until or None,
            "timestamps": timestamps or None,
            "details": details or None,
            "tail": tail,
        }
        return self.connection.request("GET", f"/containers/{quote(id)}/logs", query=query)

    def container_stats(self, id: str, *, stream: bool = False, one_shot: bool = False) -> Iterator[Json]:
        query = {"stream": stream, "one-shot": one_shot or None}
        return self.connection.request("GET", f"/containers/{quote(id)}/stats", query=query).lines()

    def container_top(self, id: str, ps_args: str = "") -> Json:
        """{"Titles": […], "Processes": [[…]]}."""
        return self.get(f"/containers/{quote(id)}/top", ps_args=ps_args or None)

    def container_changes(self, id: str) -> list[Json]:
        return self.get(f"/containers/{quote(id)}/changes") or []

    def export_container(self, id: str) -> Response:
        """A tar: read `.chunks()`."""
        return self.connection.request("GET", f"/containers/{quote(id)}/export")

    def path_stat(self, id: str, path: str) -> str:
        """X-Docker-Container-Path-Stat: base64 of JSON."""
        query = {"path": path}
        response = self.connection.request("HEAD", f"/containers/{quote(id)}/archive", query=query)
        return response.headers.get("x-docker-container-path-stat", "")

    def container_names(self, id: str, path: str) -> list[str]:
        """What is in a directory of a container; directories end with a slash. Not in Docker's API."""
        where = f"/skiff/containers/{quote(id)}/names"
        return self.connection.request("GET", where, query={"path": path}).json()["Names"]

    def get_archive(self, id: str, path: str) -> Response:
        return self.connection.request("GET", f"/containers/{quote(id)}/archive", query={"path": path})

    def put_archive(
        self, id: str, path: str, tar: Pieces, *, copy_uid_gid: bool = False, keep_type: bool = True
    ) -> None:
        query = {
            "path": path,
            "noOverwriteDirNonDir": keep_type or None,
            "copyUIDGID": copy_uid_gid or None,
        }
        headers = {"Content-Type": "application/x-tar"}
        path = f"/containers/{quote(id)}/archive"
        self.connection.request("PUT", path, query=query, body=tar, headers=headers).read()

    def commit_container(self, id: str, body: Json, **query: Any) -> Json:
        """query: repo, tag, comment, author, pause, changes."""
        return self.post("/commit", body, container=id, **query)

    # -- exec ----------------------------------------------------------------------------------------------

    def create_exec(self, container: str, body: Json) -> str:
        """The exec's id."""
        created: Json = self.post(f"/containers/{quote(container)}/exec", body)
        id: str = created["Id"]
        return id

    def start_exec(self, id: str, *, tty: bool, console_size: list[int] | None = None) -> Stream:
        body = {"Detach": False, "Tty": tty, "ConsoleSize": console_size}
        return self.connection.hijack(f"/exec/{quote(id)}/start", json=body)

    def start_exec_detached(self, id: str, *, tty: bool) -> None:
        self.post(f"/exec/{quote(id)}/start", {"Detach": True, "Tty": tty})

    def exec(self, id: str) -> Json:
        """Inspect."""
        return self.get(f"/exec/{quote(id)}/json")

    def resize_exec(self, id: str, *, height: int, width: int) -> None:
        self.post(f"/exec/{quote(id)}/resize", h=height, w=width)

    # -- images --------------------------------------------------------------------------------------------

    def images(self, *, all: bool = False, filters: Filters | None = None, **query: Any) -> list[Json]:
        return self.get("/images/json", all=all or None, filters=filters or None, **query)

    def image(self, name: str, **query: Any) -> Json:
        """Inspect."""
        return self.get(f"/images/{quote(name, b'/:@')}/json", **query)

    def image_history(self, name: str, **query: Any) -> list[Json]:
        return self.get(f"/images/{quote(name, b'/:@')}/history", **query)

    def pull_image(
        self, name: str, tag: str, *, platform: str | None = None, auth: str | None = None
    ) -> Iterator[Json]:
        """Progress, as it comes. auth: X-Registry-Auth. An "error" line is the caller's to raise."""
        query = {"fromImage": name, "tag": tag or None, "platform": platform or None}
        headers = {"X-Registry-Auth": auth} if auth else {}
        return self.connection.request("POST", "/images/create", query=query, headers=headers).lines()

    def import_image(self, body: Pieces, **query: Any) -> Iterator[Json]:
        """query: fromSrc, repo, tag, message, changes, platform."""
        return self.connection.request("POST", "/images/create", query=query, body=body).lines()

    def push_image(
        self, name: str, tag: str, *, auth: str, platform: str | None = None, compression: str = ""
    ) -> Iterator[Json]:
        query = {"tag": tag or None, "platform": platform or None, "compression": compression or None}
        path = f"/images/{quote(name, b'/:@')}/push"
        return self.connection.request("POST", path, query=query, headers={"X-Registry-Auth": auth}).lines()

    def search(self, term: str, *, filters: Filters, limit: int | None, auth: str) -> list[Json]:
        """[{"name", "description", "star_count", "is_official"}, …]."""
        query = {"term": term, "limit": limit, "filters": filters or None}
        headers = {"X-Registry-Auth": auth}
        return self.connection.request("GET", "/images/search", query=query, headers=headers).json() or []

    def manifests(self, name: str, *, auth: str, insecure: bool) -> list[Json]:
        """[{"Reference", "Descriptor", "Raw"}, …]: of an index itself first, then of what it lists."""
        path = f"/skiff/distribution/{quote(name, b'/:@')}/manifests"
        query, headers = {"insecure": insecure or None}, {"X-Registry-Auth": auth}
        return self.connection.request("GET", path, query=query, headers=headers).json() or []

    def serve_registry(
        self, listen: str, *, read_only: bool, htpasswd: str, certificate: str, key: str
    ) -> Iterator[Json]:
        """{"Address"} once it listens, then one object for each request, for as long as it is read.

        htpasswd, certificate, key: texts of such files, or empty.
        """
        asked = {"Listen": listen, "ReadOnly": read_only, "Htpasswd": htpasswd}
        asked |= {"Certificate": certificate, "Key": key}
        return self.connection.request("POST", "/skiff/registry", json=asked).lines()

    def remove_image(
        self, name: str, *, force: bool = False, prune: bool = True, platforms: list[str] | None = None
    ) -> list[Json]:
        """[{"Untagged"} | {"Deleted"}, …]. platforms: JSON of OCI platforms."""
        return self.delete(
            f"/images/{quote(name, b'/:@')}",
            force=force or None,
            noprune=not prune or None,
            platforms=platforms or None,
        )

    def tag_image(self, name: str, repository: str, tag: str) -> None:
        self.post(f"/images/{quote(name, b'/:@')}/tag", repo=repository, tag=tag or None)

    def save_images(self, names: list[str], **query: Any) -> Response:
        """A tar: read `.chunks()`."""
        return self.connection.request("GET", "/images/get", query={"names": names, **query})

    def load_images(self, tar: Pieces, *, quiet: bool = False, **query: Any) -> Iterator[Json]:
        headers = {"Content-Type": "application/x-tar"}
        query = {"quiet": quiet, **query}
        return self.connection.request("POST", "/images/load", query=query, body=tar, headers=headers).lines()

    def prune_images(self, filters: Filters | None = None) -> Json:
        return self.post("/images/prune", filters=filters or None)

    def prune_build_cache(self, *, dry: bool = False, **query: Any) -> Json:
        """query: all, filters, keep-storage. dry: only tell what would go."""
        return self.get("/skiff/build/prunable", **query) if dry else self.post("/build/prune", **query)

    # -- networks and volumes ------------------------------------------------------------------------------

    def networks(self, filters: Filters | None = None) -> list[Json]:
        return self.get("/networks", filters=filters or None)

    def network(self, id: str, *, verbose: bool = False, scope: str | None = None) -> Json:
        return self.get(f"/networks/{quote(id)}", verbose=verbose or None, scope=scope or None)

    def create_network(self, body: Json) -> Json:
        """{"Id", "Warning"}."""
        return self.post("/networks/create", body)

    def remove_network(self, id: str) -> None:
        self.delete(f"/networks/{quote(id)}")

    def connect_network(self, id: str, body: Json) -> None:
        self.post(f"/networks/{quote(id)}/connect", body)

    def disconnect_network(self, id: str, container: str, *, force: bool = False) -> None:
        self.post(f"/networks/{quote(id)}/disconnect", {"Container": container, "Force": force})

    def prune_networks(self, filters: Filters | None = None) -> Json:
        return self.post("/networks/prune", filters=filters or None)

    def volumes(self, filters: Filters | None = None) -> Json:
        """{"Volumes": […], "Warnings"}."""
        return self.get("/volumes", filters=filters or None)

    def volume(self, name: str) -> Json:
        return self.get(f"/volumes/{quote(name)}")

    def create_volume(self, body: Json) -> Json:
        return self.post("/volumes/create", body)

    def remove_volume(self, name: str, *, force: bool = False) -> None:
        self.delete(f"/volumes/{quote(name)}", force=force or None)

    # -- what only skiff has -------------------------------------------------------------------------------

    def trash(self) -> Json:
        """{"Entries", "Usage"}."""
        return self.get("/skiff/trash")

    def undo(self, count: int) -> Json:
        """{"Restored"}."""
        return self.post("/skiff/trash/undo", count=count)

    def restore(self, text: str, *, name: str = "") -> Json:
        """{"Restored"}."""
        return self.post(f"/skiff/trash/{quote(text)}/restore", name=name or None)

    def empty_trash(self, text: str = "") -> Json:
        """{"Deleted", "SpaceReclaimed"}. text: one entry; all without."""
        return self.delete(f"/skiff/trash/{quote(text)}" if text else "/skiff/trash")

    def check(self, *, mend: bool = False) -> Json:
        """{"Problems"}, after mending "Mended" and "SpaceReclaimed" too."""
        return self.post("/skiff/check") if mend else self.get("/skiff/check")

    def trace(self, name: str) -> Json:
        """{"Took", "Steps"} of the requests that had X-Skiff-Trace: name; they are forgotten then."""
        return self.get(f"/skiff/traces/{quote(name)}")

    def prunable(self, noun: str, filters: Filters | None = None) -> Json:
        """What a prune would answer. noun: containers, images, networks, volumes."""
        return self.get(f"/skiff/prunable/{noun}", filters=filters or None)

    def snapshots(self, kind: str, id: str) -> list[Json]:
        """kind: containers, volumes."""
        return self.get(f"/skiff/{kind}/{quote(id)}/snapshots")

    def snapshot(self, kind: str, id: str, name: str) -> None:
        self.post(f"/skiff/{kind}/{quote(id)}/snapshots", name=name)

    def remove_snapshot(self, kind: str, id: str, name: str) -> None:
        self.delete(f"/skiff/{kind}/{quote(id)}/snapshots/{quote(name)}")

    def rollback(self, kind: str, id: str, name: str) -> Json:
        """{"Saved"}: the snapshot of what was there."""
        return self.post(f"/skiff/{kind}/{quote(id)}/rollback", name=name)

    def fork(self, id: str, name: str) -> Json:
        """{"Id"}."""
        return self.post(f"/skiff/containers/{quote(id)}/fork", name=name)

    def clone_volume(self, name: str, new: str) -> Json:
        return self.post(f"/skiff/volumes/{quote(name)}/clone", name=new)

    # -- volumes -------------------------------------------------------------------------------------------

    def prune_volumes(self, filters: Filters | None = None) -> Json:
        return self.post("/volumes/prune", filters=filters or None)
