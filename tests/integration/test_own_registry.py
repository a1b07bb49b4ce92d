"""The registry of our own, by the sections of the distribution specification; docker and skopeo on it."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from skiff.linux.namespaces import open_namespace, setns
from tests.integration.client import Reply
from tests.integration.engines import SKIFF, Engine, Run
from tests.integration.image_store import layer, layout

OCI = "application/vnd.oci.image"
MANIFEST = f"{OCI}.manifest.v1+json"
INDEX = f"{OCI}.index.v1+json"
EMPTY = b"{}"


class Registry:
    """What `skiff serve-registry` serves, asked from the engine's network."""

    def __init__(self, engine: Engine, process: "subprocess.Popen[str]", address: str) -> None:
        self.engine, self.process, self.address = engine, process, address

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Reply:
        """One request from inside the namespace, over a socket made there."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        connection.sock = self.connect()
        try:
            if chunked:
                assert body is not None
                pieces = iter([body[:7], body[7:]])
                connection.request(method, path, pieces, headers or {}, encode_chunked=True)
            else:
                connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A connection that begins in the engine's network namespace."""
        host, _, port = self.address.partition(":")
        with ThreadPoolExecutor(1) as own:  # only that thread enters it
            return own.submit(_dialled, self.engine.network.path, host, int(port)).result()

    def put_blob(self, name: str, data: bytes) -> str:
        """Monolithic, in one request."""
        digest = of(data)
        reply = self.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data)
        assert reply.status == 201, reply
        return digest

    def put_manifest(self, name: str, reference: str, document: Any, kind: str = MANIFEST) -> Reply:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.ask("PUT", f"/v2/{name}/manifests/{reference}", data, {"Content-Type": kind})

    def artifact(self, name: str, content: bytes, **more: Any) -> tuple[dict[str, Any], str]:
        """A manifest of one blob, whose config is empty; its digest."""
        blob, config = self.put_blob(name, content), self.put_blob(name, EMPTY)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "text/plain", "digest": blob, "size": len(content)}],
            **more,
        }
        return document, of(json.dumps(document).encode())


def _dialled(network: str, host: str, port: int) -> socket.socket:
    descriptor = open_namespace(network)
    try:
        setns(descriptor)
    finally:
        os.close(descriptor)
    return socket.create_connection((host, port), 30)


def of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextlib.contextmanager
def serving(engine: Engine, *flags: str, host: str = "127.0.0.1") -> Iterator[Registry]:
    command = [*engine.network.enter, *SKIFF, "serve-registry", "--listen", f"{host}:0", *flags]
    process = subprocess.Popen(
        command, env=engine.client_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"Registry listens on ([0-9.]+:\d+)( with TLS)?\n", line)
        assert match, line + (process.stderr.read() if process.poll() is not None else "")
        yield Registry(engine, process, match[1])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)


@pytest.fixture(scope="module")
def registry(_session_engine: Engine) -> Iterator[Registry]:
    with serving(_session_engine) as registry:
        yield registry


@pytest.fixture
def name(engine: Engine) -> str:
    return f"spec-{os.urandom(4).hex()}/repository"


def codes(reply: Reply) -> list[str]:
    return [error["code"] for error in reply.json()["errors"]]


def test_determining_support(registry: Registry) -> None:
    reply = registry.ask("GET", "/v2/")
    assert (reply.status, reply.json()) == (200, {})
    assert reply.headers["docker-distribution-api-version"] == "registry/2.0"


def test_pulling_blobs(registry: Registry, name: str) -> None:
    data = os.urandom(5000)
    digest = registry.put_blob(name, data)
    where = f"/v2/{name}/blobs/{digest}"
    reply = registry.ask("GET", where)
    assert (reply.status, reply.body) == (200, data)
    assert reply.headers["docker-content-digest"] == digest
    head = registry.ask("HEAD", where)
    assert (head.status, head.headers["content-length"], head.body) == (200, "5000", b"")
    some = registry.ask("GET", where, headers={"Range": "bytes=100-199"})
    assert (some.status, some.body) == (206, data[100:200])
    assert some.headers["content-range"] == "bytes 100-199/5000"
    assert registry.ask("GET", where, headers={"Range": "bytes=4990-"}).body == data[4990:]
    assert registry.ask("GET", where, headers={"Range": "bytes=6000-7000"}).status == 416
    unknown = registry.ask("GET", f"/v2/{name}/blobs/{of(b'nothing')}")
    assert (unknown.status, codes(unknown)) == (404, ["BLOB_UNKNOWN"])
    assert registry.ask("HEAD", f"/v2/{name}/blobs/{of(b'nothing')}").status == 404
    wrong = registry.ask("GET", f"/v2/{name}/blobs/sha256:12")
    assert (wrong.status, codes(wrong)) == (400, ["DIGEST_INVALID"])


def test_pulling_manifests(registry: Registry, name: str) -> None:
    document, digest = registry.artifact(name, b"something")
    data = json.dumps(document).encode()
    put = registry.put_manifest(name, "one", data)
    assert put.status == 201, put
    assert put.headers["location"] == f"/v2/{name}/manifests/{digest}"
    for reference in ("one", digest):
        where = f"/v2/{name}/manifests/{reference}"
        reply = registry.ask("GET", where, headers={"Accept": MANIFEST})
        assert (reply.status, reply.body) == (200, data), "byte for byte"
        assert reply.headers["content-type"] == MANIFEST
        assert reply.headers["docker-content-digest"] == digest
        head = registry.ask("HEAD", where)
        assert (head.status, head.headers["content-length"]) == (200, str(len(data)))
    for method in ("GET", "HEAD"):
        assert registry.ask(method, f"/v2/{name}/manifests/other").status == 404
        assert registry.ask(method, f"/v2/{name}/manifests/{of(b'no')}").status == 404
    missing = registry.ask("GET", f"/v2/{name}/manifests/other")
    assert codes(missing) == ["MANIFEST_UNKNOWN"]


def test_pushing_a_blob_in_two_requests(registry: Registry, name: str) -> None:
    data = os.urandom(3000)
    begun = registry.ask("POST", f"/v2/{name}/blobs/uploads/")
    assert begun.status == 202
    session = begun.headers["location"]
    done = registry.ask(
        "PUT", f"{session}?digest={of(data)}", data, {"Content-Type": "application/octet-stream"}
    )
    assert done.status == 201
    assert done.headers["location"] == f"/v2/{name}/blobs/{of(data)}"
    assert registry.ask("GET", done.headers["location"]).body == data
    assert registry.ask("GET", session).status == 404, "the session is over"


@pytest.mark.parametrize("chunked", [False, True])
def test_pushing_a_blob_in_chunks(registry: Registry, name: str, chunked: bool) -> None:
    data = os.urandom(3000)
    session = registry.ask("POST", f"/v2/{name}/blobs/uploads/", b"").headers["location"]
    for start, end in ((0, 1000), (1000, 2500)):
        headers = {"Content-Range": f"{start}-{end - 1}", "Content-Type": "application/octet-stream"}
        sent = registry.ask("PATCH", session, data[start:end], headers, chunked=chunked)
        assert (sent.status, sent.headers["range"]) == (202, f"0-{end - 1}")
        session = sent.headers["location"]
    again = registry.ask("PATCH", session, data[:100], {"Content-Range": "0-99"})
    assert (again.status, again.headers["range"]) == (416, "0-2499"), "out of order"
    odd = registry.ask("PATCH", session, b"x", {"Content-Range": "what"})
    assert (odd.status, codes(odd)) == (400, ["BLOB_UPLOAD_INVALID"])
    held = registry.ask("GET", session)
    assert (held.status, held.headers["range"]) == (204, "0-2499")
    done = registry.ask("PUT", f"{session}?digest={of(data)}", data[2500:], {"Content-Range": "2500-2999"})
    assert done.status == 201
    assert registry.ask("GET", done.headers["location"]).body == data


def test_a_broken_upload_goes_on(registry: Registry, name: str) -> None:
    data = os.urandom(8 << 20)
    session = registry.ask("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    with registry.connect() as broken:
        head = f"PATCH {session} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        broken.sendall(head.encode() + data[: 6 << 20])
        broken.shutdown(socket.SHUT_WR)
        broken.recv(1000)
    held = registry.ask("GET", session).headers["range"]
    come = int(held.removeprefix("0-")) + 1
    assert 2 << 20 <= come <= 6 << 20
    headers = {"Content-Range": f"{come}-{len(data) - 1}"}
    assert registry.ask("PATCH", session, data[come:], headers).status == 202
    assert registry.ask("PUT", f"{session}?digest={of(data)}").status == 201


def test_an_upload_that_is_given_up_or_wrong(registry: Registry, name: str) -> None:
    session = registry.ask("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    assert registry.ask("PATCH", session, b"some").status == 202
    assert registry.ask("DELETE", session).status == 204
    gone = registry.ask("PATCH", session, b"more")
    assert (gone.status, codes(gone)) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    session = registry.ask("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    wrong = registry.ask("PUT", f"{session}?digest={of(b'a')}", b"b")
    assert (wrong.status, codes(wrong)) == (400, ["DIGEST_INVALID"])
    assert registry.ask("HEAD", f"/v2/{name}/blobs/{of(b'b')}").status == 404
    session = registry.ask("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    assert codes(registry.ask("PUT", session, b"b")) == ["DIGEST_INVALID"]
    other = session.replace(name, "another/place")
    assert codes(registry.ask("PATCH", other, b"b")) == ["BLOB_UPLOAD_UNKNOWN"]
    assert registry.ask("DELETE", session).status == 204


def test_mounting_from_another_repository(registry: Registry, name: str) -> None:
    digest = registry.put_blob(name, b"to be mounted")
    mounted = registry.ask("POST", f"/v2/{name}/two/blobs/uploads/?mount={digest}&from={name}")
    assert (mounted.status, mounted.headers["location"]) == (201, f"/v2/{name}/two/blobs/{digest}")
    assert registry.ask("GET", mounted.headers["location"]).body == b"to be mounted"
    none = registry.ask("POST", f"/v2/{name}/two/blobs/uploads/?mount={of(b'none')}&from={name}")
    assert none.status == 202, "an upload begins instead"
    assert registry.ask("DELETE", none.headers["location"]).status == 204


def test_pushing_manifests_that_cannot_be(registry: Registry, name: str) -> None:
    document, digest = registry.artifact(name, b"good")
    lost = document | {"layers": [{"mediaType": "text/plain", "digest": of(b"lost"), "size": 4}]}
    assert codes(registry.put_manifest(name, "x", lost)) == ["MANIFEST_BLOB_UNKNOWN"]
    assert codes(registry.put_manifest(name, of(b"other"), document)) == ["DIGEST_INVALID"]
    assert codes(registry.put_manifest(name, "x", b"{")) == ["MANIFEST_INVALID"]
    assert codes(registry.put_manifest(name, "x", document, "text/plain")) == ["MANIFEST_INVALID"]
    assert codes(registry.put_manifest(name, "x", document, INDEX)) == ["MANIFEST_INVALID"]
    large = registry.put_manifest(name, "x", b" " * (4 << 20) + b"{}")
    assert (large.status, codes(large)) == (413, ["SIZE_INVALID"])
    assert codes(registry.put_manifest(name, "-x", document)) == ["TAG_INVALID"]
    assert codes(registry.ask("POST", "/v2/UPPER/blobs/uploads/")) == ["NAME_INVALID"]
    lists = {"schemaVersion": 2, "mediaType": INDEX}
    lists |= {"manifests": [{"mediaType": MANIFEST, "digest": digest, "size": 2}]}
    assert codes(registry.put_manifest(name, "x", lists, INDEX)) == ["MANIFEST_UNKNOWN"]


def test_listing_tags_page_by_page(registry: Registry, name: str) -> None:
    document, _ = registry.artifact(name, b"tagged")
    for tag in ("c", "a", "d", "b"):
        assert registry.put_manifest(name, tag, document).status == 201
    assert registry.ask("GET", f"/v2/{name}/tags/list").json() == {"name": name, "tags": ["a", "b", "c", "d"]}
    first = registry.ask("GET", f"/v2/{name}/tags/list?n=2")
    assert first.json()["tags"] == ["a", "b"]
    assert first.headers["link"] == f'</v2/{name}/tags/list?last=b&n=2>; rel="next"'
    second = registry.ask("GET", first.headers["link"].partition(">")[0][1:])
    assert second.json()["tags"] == ["c", "d"]
    assert "link" not in second.headers
    assert registry.ask("GET", f"/v2/{name}/tags/list?n=0").json()["tags"] == []
    assert registry.ask("GET", f"/v2/{name}/tags/list?last=c").json()["tags"] == ["d"]
    assert registry.ask("GET", f"/v2/{name}/tags/list?n=-1").status == 400
    nobody = registry.ask("GET", f"/v2/{name}/nobody/tags/list")
    assert (nobody.status, codes(nobody)) == (404, ["NAME_UNKNOWN"])
    assert name in registry.ask("GET", "/v2/_catalog").json()["repositories"]
    assert len(registry.ask("GET", "/v2/_catalog?n=1").json()["repositories"]) == 1


def test_listing_referrers(registry: Registry, name: str) -> None:
    document, subject = registry.artifact(name, b"subject")
    pointer = {"mediaType": MANIFEST, "digest": subject, "size": len(json.dumps(document))}
    notes = {"org.example": "yes"}
    signature, signed = registry.artifact(name, b"signature", subject=pointer, annotations=notes)
    put = registry.put_manifest(name, signed, signature)  # before its subject is here
    assert (put.status, put.headers["oci-subject"]) == (201, subject)
    assert registry.put_manifest(name, "subject", document).status == 201
    other, others = registry.artifact(name, b"sbom", subject=pointer, artifactType="application/sbom")
    assert registry.put_manifest(name, others, other).status == 201
    found = registry.ask("GET", f"/v2/{name}/referrers/{subject}")
    assert found.headers["content-type"] == INDEX
    listed = {one["digest"]: one for one in found.json()["manifests"]}
    assert listed.keys() == {signed, others}
    assert listed[signed] == {
        "mediaType": MANIFEST,
        "digest": signed,
        "size": len(json.dumps(signature)),
        "artifactType": "application/vnd.example",
        "annotations": notes,
    }
    some = registry.ask("GET", f"/v2/{name}/referrers/{subject}?artifactType=application/sbom")
    assert some.headers["oci-filters-applied"] == "artifactType"
    assert [one["digest"] for one in some.json()["manifests"]] == [others]
    none = registry.ask("GET", f"/v2/{name}/referrers/{of(b'nobody')}")
    assert (none.status, none.json()["manifests"]) == (200, [])
    assert registry.ask("GET", f"/v2/{name}/referrers/x").status == 400


def test_deleting(registry: Registry, name: str) -> None:
    document, digest = registry.artifact(name, b"to be deleted")
    blob = of(b"to be deleted")
    for tag in ("a", "b"):
        assert registry.put_manifest(name, tag, document).status == 201
    used = registry.ask("DELETE", f"/v2/{name}/blobs/{blob}")
    assert (used.status, codes(used)) == (405, ["UNSUPPORTED"]), "a manifest needs it"
    assert registry.ask("DELETE", f"/v2/{name}/manifests/a").status == 202
    assert registry.ask("GET", f"/v2/{name}/manifests/a").status == 404
    assert registry.ask("GET", f"/v2/{name}/manifests/b").status == 200
    assert registry.ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    assert registry.ask("GET", f"/v2/{name}/manifests/{digest}").status == 404
    assert registry.ask("GET", f"/v2/{name}/manifests/b").status == 404
    assert registry.ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 404
    assert registry.ask("DELETE", f"/v2/{name}/blobs/{blob}").status == 202
    assert registry.ask("GET", f"/v2/{name}/blobs/{blob}").status == 404
    assert registry.ask("DELETE", f"/v2/{name}/blobs/{blob}").status == 404


def test_docker_and_skopeo_carry_images_both_ways(registry: Registry, name: str, tmp_path: Path) -> None:
    engine, where = registry.engine, f"{registry.address}/{name}"
    # out: what is here is served under its own name, by tag and by digest
    out = tmp_path / "out"
    copied = engine.run(
        "skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{registry.address}/busybox", f"oci:{out}"
    )
    copied.ok()
    assert len(os.listdir(out / "blobs/sha256")) == 3
    # in: an index of two platforms; this machine's becomes an image, the other is kept
    kept = layout(tmp_path / "in", [layer({"etc/came": b"in"})], ("amd64", "arm64"))
    skopeo = ("skopeo", "copy", "-q", "--all", "--dest-tls-verify=false")
    engine.run(*skopeo, f"oci:{tmp_path}/in", f"docker://{where}:1").ok()
    assert engine.docker("images", "-q", "--no-trunc", f"{name}:1").ok() == kept
    back = tmp_path / "back"
    engine.run(
        "skopeo", "copy", "-q", "--all", "--src-tls-verify=false", f"docker://{where}:1", f"oci:{back}"
    ).ok()
    assert sorted(os.listdir(back / "blobs/sha256")) == sorted(os.listdir(tmp_path / "in/blobs/sha256"))
    # the engine pushes to itself, and pulls
    assert engine.docker("tag", "busybox", f"{where}/own:2").code == 0
    pushed = engine.docker("push", f"{where}/own:2").ok()
    assert re.search(r"^2: digest: sha256:[0-9a-f]{64} size: \d+$", pushed, re.M), pushed
    assert engine.docker("rmi", f"{where}/own:2").code == 0
    assert engine.docker("pull", "-q", f"{where}/own:2").ok() == f"{where}/own:2"
    assert engine.docker("run", "--rm", "--network", "none", f"{where}/own:2", "echo", "runs").ok() == "runs"
    for image in (f"{where}/own:2", f"{name}/own:2", f"{name}:1"):
        engine.docker("rmi", image).ok()
    assert registry.ask("GET", f"/v2/{name}/manifests/1").status == 404


def test_a_password_and_only_reading(engine: Engine, tmp_path: Path) -> None:
    people = tmp_path / "people"
    subprocess.run(["htpasswd", "-cbB", str(people), "ann", "s3cret"], check=True, capture_output=True)
    with serving(engine, "--read-only", "--htpasswd", str(people)) as registry:
        nobody = registry.ask("GET", "/v2/")
        assert (nobody.status, codes(nobody)) == (401, ["UNAUTHORIZED"])
        assert nobody.headers["www-authenticate"] == 'Basic realm="skiff"'
        wrong = engine.docker("login", "-u", "ann", "-p", "wrong", registry.address)
        assert wrong.code == 1
        assert engine.docker("login", "-u", "bob", "-p", "s3cret", registry.address).code == 1
        assert "Login Succeeded" in engine.docker("login", "-u", "ann", "-p", "s3cret", registry.address).ok()
        assert engine.docker("pull", "-q", f"{registry.address}/busybox").code == 0
        engine.docker("tag", "busybox", f"{registry.address}/mine").ok()
        refused = engine.docker("push", f"{registry.address}/mine")
        assert refused.code == 1
        assert "unsupported: this registry is read only" in refused.err
        for image in ("mine", "busybox"):
            engine.docker("rmi", f"{registry.address}/{image}").ok()
    assert "s3cret" not in engine.log()
    people.write_text("ann:plain\n")
    refused = engine.skiff("serve-registry", "--htpasswd", str(people))
    assert refused.code == 1
    assert "invalid htpasswd, line 1: expected a name and a bcrypt hash (htpasswd -B)" in refused.err


def test_the_listener_ends_with_its_command(engine: Engine) -> None:
    with serving(engine) as registry:
        address = registry.address
        registry.process.send_signal(signal.SIGINT)
        registry.process.wait(20)
        tried = engine.run(
            "bash",
            "-c",
            f"for i in $(seq 50); do (: </dev/tcp/{address.replace(':', '/')}) || exit 7; sleep 0.1; done",
        )
        assert tried.code == 7


def test_carrying_images_to_another_skiff(engine: Engine, own_engine: Engine, tmp_path: Path) -> None:
    """`ssh` is a program that runs the words here, against the other engine."""
    (tmp_path / "skiff").write_text(f'#!/bin/sh\n{" ".join(SKIFF)} -H unix://{own_engine.socket} "$@"\n')
    (tmp_path / "ssh").write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\nwhile [ "$1" != -- ]; do shift; done\nshift 2\n'
        f'PATH={tmp_path}:$PATH exec sh -c "$*"\n'
    )
    for program in ("skiff", "ssh"):
        (tmp_path / program).chmod(0o755)

    def skiff(*words: str) -> Run:
        command = ("env", f"PATH={tmp_path}:{os.environ['PATH']}", *SKIFF, *words)
        return engine.run(*command)

    layout(tmp_path / "image", [layer({"one": os.urandom(2 << 20)}), layer({"two": b"2"})])
    archive = tmp_path / "archive.tar"
    name = "carried.example/app:7"
    copy = ("skopeo", "copy", "-q", f"oci:{tmp_path}/image", f"docker-archive:{archive}:{name}")
    engine.run(*copy).ok()
    engine.skiff("load", "-i", str(archive)).ok()
    pushed = skiff("push", name, "ssh://me@far:2222").ok().split("\n")
    assert pushed[0] == "The push refers to repository [ssh://me@far:2222/carried.example/app]"
    assert [line.partition(": ")[2] for line in pushed[1:-2] if "Pushing" not in line] == ["Pushed"] * 2
    digest = re.fullmatch(r"7: digest: (sha256:[0-9a-f]{64}) size: \d+", pushed[-2])
    assert digest and pushed[-1] == name
    asked = (tmp_path / "asked").read_text().split("\n")[0]
    assert asked == "-l me -p 2222 -o ConnectTimeout=30 -T -- far skiff system dial-stdio"
    ids = [one.skiff("images", "-q", "--no-trunc", name).ok() for one in (engine, own_engine)]
    assert ids[0] == ids[1] != ""
    again = skiff("push", name, "ssh://far").ok()
    assert again.count("Layer already exists") == 2
    assert "Pushing" not in again

    engine.skiff("rmi", name).ok()
    engine.client.delete("/skiff/trash")
    pulled = skiff("pull", f"ssh://far/{name}").ok().split("\n")
    assert pulled[0] == "Pulling from ssh://far/carried.example/app"
    assert pulled[-2:] == [f"Digest: {digest[1]}", name]
    assert engine.skiff("images", "-q", "--no-trunc", name).ok() == ids[0]
    # a name with a port; every tag; silence
    for tag in ("1", "2"):
        engine.skiff("tag", name, f"localhost:5000/x:{tag}").ok()
    assert skiff("push", "-aq", "localhost:5000/x", "ssh://far").ok() == "localhost:5000/x"
    assert own_engine.skiff("images", "-q", "localhost:5000/x").ok().count("\n") == 1
    # what cannot be
    for words, reason in (
        (("push", "nope", "ssh://far"), "manifest unknown: nope has no latest"),
        (("pull", "ssh://far/nope:1"), "manifest unknown: nope has no 1"),
        (("push", name, "far"), "'skiff push' requires 1 argument"),
        (("pull", "ssh://far"), "invalid source 'ssh://far': expected ssh://[USER@]HOST[:PORT]/IMAGE"),
        (("push", "--platform", "linux/arm64", name, "ssh://far"), "--platform cannot be used with ssh://"),
    ):
        refused = skiff(*words)
        assert refused.code == 1
        assert reason in refused.err, refused
    (tmp_path / "skiff").write_text("#!/bin/sh\nexit 3\n")
    assert skiff("push", name, "ssh://far").code == 1
    for image in (name, "localhost:5000/x:1", "localhost:5000/x:2"):
        engine.skiff("rmi", image).ok()
