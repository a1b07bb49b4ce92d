"""Pulls through what goes wrong on the way: mirrors that are down, blobs that lack or lie, connections that
break, crawl or go through a proxy, a disk that is full, an authority of one's own.
"""

import asyncio
import gzip
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skiff.engine.registry import hosts, transport
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.proxies import Proxies
from skiff.engine.registry.transport import HttpTransport
from skiff.errors import NotFound, SkiffError
from skiff.oci.manifest import DOCKER_FOREIGN_GZIP
from tests.fakes.registry import OCI, FakeRegistry
from tests.integration.image_store import MARKS, Engine, layer, layout, push, serving
from tests.integration.own_network import OUTSIDE, in_own_network

pytestmark = MARKS


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    await engine.close()


def image(fake: FakeRegistry, name: str, layers: list[bytes], **foreign: object) -> list[str]:
    """An image in the fake; the digests of its packed layers. foreign: of every layer's descriptor."""
    packed = [gzip.compress(one, 1, mtime=0) for one in layers]
    diff_ids = ["sha256:" + hashlib.sha256(one).hexdigest() for one in layers]
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":%s}}' % (
        str(diff_ids).replace("'", '"').encode()
    )
    digests = [fake.put_blob(one) for one in packed]
    parts = [
        {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": digest, "size": len(data), **foreign}
        for digest, data in zip(digests, packed, strict=True)
    ]
    stored = {"mediaType": f"{OCI}.config.v1+json", "digest": fake.put_blob(config), "size": len(config)}
    fake.put_manifest(name, "1", {"schemaVersion": 2, "config": stored, "layers": parts})
    return digests


async def nothing_is_left(engine: Engine) -> None:
    """No half image: no row, no lease, and no draft once the threads have put theirs away."""
    assert engine.images.rows() == []
    assert not engine.leases.held()
    async with asyncio.timeout(20):
        while [info for info in engine.snapshots.walk() if info.kind != "committed"]:
            await asyncio.sleep(0.02)


async def test_a_mirror_that_is_down_is_passed_over(engine: Engine, fake: FakeRegistry) -> None:
    image(fake, "team/app", [layer({"a": b"a"})])
    address = fake.address
    engine.registries.hosts = Hosts(mirrors_of={address: ["http://127.0.0.1:9/x", f"http://{address}/lost"]})
    await engine.pull(f"{address}/team/app:1")
    asked = [path for path in fake.paths() if "manifests" in path]
    assert asked == ["/v2/lost/team/app/manifests/1", "/v2/team/app/manifests/1"], "then the registry itself"


async def test_a_mirror_with_a_path_has_it_all(engine: Engine, fake: FakeRegistry) -> None:
    image(fake, "quay/team/app", [layer({"a": b"a"})])
    engine.registries.hosts = Hosts(mirrors_of={"*": [f"http://{fake.address}/quay"]})
    await engine.pull("quay.example/team/app:1")
    (row,) = await engine.images.list()
    assert row.repo_tags == ("quay.example/team/app:1",)


async def test_a_foreign_layer_comes_from_where_it_lies(engine: Engine, fake: FakeRegistry) -> None:
    other = FakeRegistry()
    await other.start()
    try:
        packed = gzip.compress(layer({"a": b"a"}), 1, mtime=0)
        where = f"http://{other.address}/elsewhere/{other.put_blob(packed)}"
        (digest,) = image(fake, "x", [layer({"a": b"a"})], urls=[where], mediaType=DOCKER_FOREIGN_GZIP)
        del fake.blobs[digest]
        await engine.pull(f"{fake.address}/x:1")
        assert len(await engine.images.list()) == 1
    finally:
        await other.stop()


async def test_a_blob_that_lacks(engine: Engine, fake: FakeRegistry) -> None:
    good, lost = image(fake, "x", [layer({"a": b"a"}), layer({"b": b"b"})])
    data = fake.blobs.pop(lost)
    with pytest.raises(NotFound, match="blob unknown to registry"):
        await engine.pull(f"{fake.address}/x:1")
    await nothing_is_left(engine)
    fake.blobs[lost] = data
    await engine.pull(f"{fake.address}/x:1")
    assert sum(good in path for path in fake.paths()) == 1, "what had come is not fetched again"


async def test_a_blob_that_lies(engine: Engine, fake: FakeRegistry) -> None:
    (digest,) = image(fake, "x", [layer({"a": os.urandom(100_000)})])
    fake.wrong.add(digest)
    with pytest.raises(SkiffError) as lied:
        await engine.pull(f"{fake.address}/x:1")
    assert "has digest" in str(lied.value) and digest in str(lied.value)
    await nothing_is_left(engine)
    fake.wrong.clear()
    await engine.pull(f"{fake.address}/x:1")


async def test_a_connection_that_breaks_again_and_again(engine: Engine, fake: FakeRegistry) -> None:
    (digest,) = image(fake, "x", [layer({"a": os.urandom(3 << 20)})])
    fake.cut[digest] = [100_000, 1_000_000, 1]
    await engine.pull(f"{fake.address}/x:1")
    ranges = [headers.get("Range") for _, path, headers in fake.requests if digest in path]
    assert len(ranges) == 4
    assert str(ranges[1]).startswith("bytes=100000-"), "each went on where the last one broke"


async def test_a_connection_that_falls_silent_is_given_up(
    engine: Engine, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that crawls is not: as long as bytes come, it is waited for."""
    monkeypatch.setattr(transport, "SILENCE_SECONDS", 0.5)
    image(fake, "x", [layer({"a": os.urandom(200_000)})])
    host, _, port = fake.address.partition(":")
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        upstream, down = await asyncio.open_connection(host, int(port))
        through, silent = 0, connections == 1

        async def back() -> None:
            nonlocal through
            while data := await upstream.read(20_000):
                if silent and through > 50_000:
                    await asyncio.sleep(3600)
                through += len(data)
                writer.write(data)
                await asyncio.sleep(0.1)

        answers = asyncio.ensure_future(back())
        try:
            while data := await reader.read(1 << 16):
                down.write(data)
        except ConnectionError:
            pass
        answers.cancel()
        for end in (down, writer):
            end.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        await engine.pull(f"127.0.0.1:{server.sockets[0].getsockname()[1]}/x:1")
        assert connections > 1
        assert len(await engine.images.list()) == 1
    finally:
        server.close()


async def test_too_many_requests(engine: Engine, fake: FakeRegistry) -> None:
    image(fake, "x", [layer({"a": b"a"})])
    engine.registries.attempts = 2
    fake.failures = [429] * 2
    with pytest.raises(SkiffError, match="toomanyrequests: not now"):
        await engine.pull(f"{fake.address}/x:1")
    await engine.pull(f"{fake.address}/x:1")


async def test_whoever_leaves_keeps_what_came(engine: Engine, fake: FakeRegistry) -> None:
    """Ctrl-C in the middle of a blob: the next pull asks for the rest."""
    noise = layer({"a": os.urandom(6 << 20)})
    (digest,) = image(fake, "x", [noise])
    fake.cut[digest] = [4 << 20]
    engine.registries._pause = _for_ever
    work = engine.images.pull(f"{fake.address}/x:1")

    async def listen() -> None:
        async for _ in work:
            pass

    listening = asyncio.ensure_future(listen())
    coming = f"{engine.root}/content/ingest"
    while not any(entry.stat().st_size >= 2 << 20 for entry in os.scandir(coming)):
        await asyncio.sleep(0.01)
    listening.cancel()
    await asyncio.wait({listening})
    await work.aclose()
    await nothing_is_left(engine)
    engine.registries._pause = asyncio.sleep
    await engine.pull(f"{fake.address}/x:1")
    *_, start = [
        headers["Range"] for _, path, headers in fake.requests if digest in path and "Range" in headers
    ]
    assert int(start.removeprefix("bytes=").partition("-")[0]) >= 2 << 20


async def _for_ever(seconds: float) -> None:
    await asyncio.sleep(3600)


async def test_a_disk_that_is_full(fake: FakeRegistry, tmp_path: Path) -> None:
    image(fake, "small", [layer({"a": b"a"})])
    image(fake, "large", [layer({"a": os.urandom(12 << 20)})])
    root = tmp_path / "small-disk"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
    engine = Engine(root)
    try:
        await engine.pull(f"{fake.address}/small:1")
        with pytest.raises(SkiffError, match="no space left on device"):
            await engine.pull(f"{fake.address}/large:1")
        (row,) = await engine.images.list()
        assert row.repo_tags == (f"{fake.address}/small:1",)
        assert not engine.leases.held()
    finally:
        await engine.close()
        subprocess.run(["umount", str(root)], check=True)


async def test_a_proxy_passes_it_on(fake: FakeRegistry, tmp_path: Path) -> None:
    """Names that only the proxy can find; it is told who we are, and nobody else is."""
    image(fake, "x", [layer({"a": b"a"})])
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        host, _, port = fake.address.partition(":")
        upstream, down = await asyncio.open_connection(host, int(port))
        down.write(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        while data := await upstream.read(1 << 16):
            writer.write(data)
        writer.close()
        down.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = f"http://me:pw@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    engine = Engine(tmp_path, Hosts(insecure=["far.example"]))
    engine.registries._transport = HttpTransport(proxies=Proxies(http=proxy))
    try:
        await engine.pull("far.example/x:1")
        assert all(head.startswith("GET http://far.example/v2/x/") for head in heads), heads
        assert all("Proxy-Authorization: Basic bWU6cHc=" in head for head in heads)
    finally:
        await engine.registries._transport.close()
        await engine.close()
        server.close()


def test_an_authority_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS at an address that is not the loopback, with a certificate that only certs.d vouches for."""
    files = ["-keyout", f"{tmp_path}/key.pem", "-out", f"{tmp_path}/cert.pem"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{OUTSIDE}"]
    subprocess.run(["openssl", "req", "-x509", *curve, *subject, *files], check=True, capture_output=True)
    layout(tmp_path / "layout", [layer({"a": b"a"})])
    monkeypatch.setattr(hosts, "CERTIFICATES", (str(tmp_path / "certs.d"),))

    async def scenario() -> None:
        tls = f", tls: {{certificate: {tmp_path}/cert.pem, key: {tmp_path}/key.pem}}"
        with serving(tmp_path / "registry", tls=tls, host=OUTSIDE) as address:
            await asyncio.to_thread(push, tmp_path / "layout", f"{address}/x:1")
            engine = Engine(tmp_path / "one")
            with pytest.raises(SkiffError, match="certificate signed by unknown authority"):
                await engine.pull(f"{address}/x:1")
            trusted = tmp_path / "certs.d" / address
            trusted.mkdir(parents=True)
            (trusted / "ca.crt").write_bytes((tmp_path / "cert.pem").read_bytes())
            await engine.pull(f"{address}/x:1")
            await engine.images.tag(f"{address}/x:1", f"{address}/y", "1")
            await engine.push(f"{address}/y:1")
            await engine.close()
            careless = Engine(tmp_path / "two", Hosts(insecure=["192.0.2.0/24"]))
            await careless.pull(f"{address}/y:1")
            await careless.close()

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    in_own_network(scenario)


async def test_a_registry_on_ipv6(engine: Engine, fake: FakeRegistry, tmp_path: Path) -> None:
    image(fake, "x", [layer({"a": b"a"})])
    await engine.pull(f"{fake.address}/x:1")
    with serving(tmp_path / "registry", host="[::1]") as address:
        await engine.images.tag(f"{fake.address}/x:1", f"{address}/x", "1")
        await engine.push(f"{address}/x:1")
        for name in (fake.address, address):
            await engine.images.remove(f"{name}/x:1")
        await engine.pull(f"{address}/x:1")
        assert (await engine.images.list())[0].repo_tags == (f"{address}/x:1",)
