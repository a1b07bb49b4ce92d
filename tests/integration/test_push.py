"""Pushing to Debian's docker-registry: what goes over, what is spared, what is said. skopeo reads it back."""

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skiff.engine.images.progress import Progress
from skiff.errors import InvalidParameter, NotFound, SkiffError
from skiff.oci.platform import Platform
from tests.fakes.local_server import LocalServer
from tests.integration.image_store import MARKS, Engine, layer, layout, push

pytestmark = MARKS


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    await engine.close()


def said(events: list[Progress], layer: bytes) -> list[str]:
    """What became of a layer, progress left out."""
    id = hashlib.sha256(layer).hexdigest()[:12]
    return [event.status or "" for event in events if event.id == id and event.status != "Pushing"]


async def loaded(engine: Engine, tmp_path: Path, layers: list[bytes], name: str) -> str:
    """An image that came as a Docker archive: plain tars, no manifest."""
    where = tmp_path / f"layout-{len(list(tmp_path.iterdir()))}"
    id = layout(where, layers)
    archive = tmp_path / "archive.tar"
    archive.unlink(missing_ok=True)
    subprocess.run(["skopeo", "copy", "-q", f"oci:{where}", f"docker-archive:{archive}:{name}"], check=True)

    async def stream() -> AsyncIterator[bytes]:
        yield archive.read_bytes()

    async for _ in engine.images.load(stream()):
        pass
    return id


def manifest(address: str, name: str) -> bytes:
    found = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{address}/{name}"],
        check=True,
        capture_output=True,
    )
    return found.stdout


async def test_a_loaded_image(engine: Engine, registry: str, tmp_path: Path) -> None:
    layers = [layer({"big": os.urandom(3 << 20)}), layer({"small": b"1"})]
    await loaded(engine, tmp_path, layers, "made/here:1")
    await engine.images.tag("made/here:1", f"{registry}/team/app", "1")
    events = await engine.push(f"{registry}/team/app", tag="1")
    assert events[0].status == f"The push refers to repository [{registry}/team/app]"
    ids = [hashlib.sha256(one).hexdigest()[:12] for one in reversed(layers)]
    assert [(event.id, event.status) for event in events[1:3]] == [(id, "Preparing") for id in ids]
    assert said(events, layers[0]) == ["Preparing", "Pushed"]
    data = manifest(registry, "team/app:1")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert events[-2].status == f"1: digest: {digest} size: {len(data)}"
    assert events[-1].aux == {"Tag": "1", "Digest": digest, "Size": len(data)}
    document = json.loads(data)
    assert data == json.dumps(document, indent=3).encode(), "indented as Docker's own are"
    assert document["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    (row,) = await engine.images.list()
    assert f"{registry}/team/app@{digest}" in (row.repo_digests or ())
    # compressed once; the plain tars are gone
    blobs = {one["digest"] for one in document["layers"]}
    assert blobs <= {info.digest for info in engine.content.walk()}
    assert not {f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers} & {
        info.digest for info in engine.content.walk()
    }
    assert engine.events[-1] == ("push", f"{registry}/team/app:1")
    assert not engine.leases.held()

    again = await engine.push(f"{registry}/team/app", tag="1")
    assert [said(again, one) for one in layers] == [["Preparing", "Layer already exists"]] * 2
    await engine.images.tag("made/here:1", f"{registry}/other/app", "2")
    beside = await engine.push(f"{registry}/other/app:2")
    assert [said(beside, one) for one in layers] == [["Preparing", "Mounted from team/app"]] * 2

    subprocess.run(
        [
            "skopeo",
            "copy",
            "-q",
            "--src-tls-verify=false",
            f"docker://{registry}/other/app:2",
            f"dir:{tmp_path}/back",
        ],
        check=True,
    )


async def test_a_digest_survives_pull_and_push(engine: Engine, registry: str, tmp_path: Path) -> None:
    layout(tmp_path / "layout", [layer({"a": b"a"}), layer({"b": b"b"})])
    push(tmp_path / "layout", f"{registry}/came/from:1")
    came = manifest(registry, "came/from:1")
    await engine.pull(f"{registry}/came/from:1")
    await engine.images.tag(f"{registry}/came/from:1", f"{registry}/goes/to", "9")
    await engine.push(f"{registry}/goes/to:9")
    assert manifest(registry, "goes/to:9") == came
    await engine.images.remove(f"{registry}/goes/to:9")
    await engine.images.remove(f"{registry}/came/from:1")
    assert list(engine.content.walk()) == []


async def test_every_tag(engine: Engine, registry: str, tmp_path: Path) -> None:
    tar = layer({"x": b"x"})
    await loaded(engine, tmp_path, [tar], "made/every:1")
    for tag in ("b", "a"):
        await engine.images.tag("made/every:1", f"{registry}/every", tag)
    events = await engine.push(f"{registry}/every")
    tags = [event.aux["Tag"] for event in events if event.aux]
    assert tags == ["a", "b"]


async def test_what_cannot_be_pushed(engine: Engine, registry: str, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(NotFound) as missing:
        async for event in engine.images.push(f"{registry}/nope", tag="2"):
            seen.append(event)
    assert [event.status for event in seen] == [f"The push refers to repository [{registry}/nope]"]
    assert str(missing.value) == f"An image does not exist locally with the tag: {registry}/nope"
    await loaded(engine, tmp_path, [layer({"x": b"x"})], f"{registry}/x:1")
    with pytest.raises(NotFound) as other:
        async for _ in engine.images.push(
            f"{registry}/x:1", platform=Platform(architecture="arm64", os="linux")
        ):
            pass
    assert str(other.value) == (
        f"image with reference {registry}/x:1 was found but its platform (linux/amd64)"
        " does not match the specified platform (linux/arm64)"
    )
    for wanted, said in (("nope:1", "nope:1"), ("x", "x:latest")):  # of all tags the default one is looked at
        with pytest.raises(NotFound) as absent:
            async for _ in engine.images.push(
                f"{registry}/{wanted}", platform=Platform(architecture="amd64", os="linux")
            ):
                raise AssertionError("nothing is told before")
        assert str(absent.value) == f"No such image: {registry}/{said}"
    with pytest.raises(InvalidParameter, match="cannot push a digest reference"):
        await engine.push(f"{registry}/x", tag="sha256:" + "0" * 64)
    await engine.images.tag(f"{registry}/x:1", "127.0.0.1:59/x", "1")
    with pytest.raises(SkiffError) as refused:
        await engine.push("127.0.0.1:59/x:1")
    assert str(refused.value) == (
        'Get "http://127.0.0.1:59/v2/": dial tcp 127.0.0.1:59: connect: connection refused'
    )


async def test_two_pushes_share_the_compression(engine: Engine, registry: str, tmp_path: Path) -> None:
    tar = layer({"noise": os.urandom(1 << 20)})
    await loaded(engine, tmp_path, [tar], "made/twice:1")
    for name in ("one", "two"):
        await engine.images.tag("made/twice:1", f"{registry}/{name}", "1")
    first, second = await asyncio.gather(engine.push(f"{registry}/one:1"), engine.push(f"{registry}/two:1"))
    assert said(first, tar)[-1] in ("Pushed", "Mounted from two")
    assert said(second, tar)[-1] in ("Pushed", "Mounted from one")
    assert manifest(registry, "one:1") == manifest(registry, "two:1")


class CuttingProxy(LocalServer):
    """Passes bytes on to a registry, and ends connections after so many of them, for each of `cuts` once."""

    def __init__(self, target: str, cuts: list[int]) -> None:
        self.host, _, port = target.partition(":")
        self.port = int(port)
        self.cuts = cuts
        self.sent = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, down = await asyncio.open_connection(self.host, self.port)

        async def back() -> None:
            while data := await upstream.read(1 << 16):
                writer.write(data)
                await writer.drain()

        answers = asyncio.ensure_future(back())
        through = 0
        try:
            while data := await reader.read(1 << 16):
                through += len(data)
                self.sent += len(data)
                down.write(data)
                await down.drain()
                if self.cuts and through > self.cuts[0]:
                    self.cuts.pop(0)
                    break
        except ConnectionError:
            pass
        answers.cancel()
        for end in (down, writer):
            end.close()


async def test_a_push_survives_broken_connections(engine: Engine, registry: str, tmp_path: Path) -> None:
    tar = layer({"noise": os.urandom(16 << 20)})
    await loaded(engine, tmp_path, [tar], "made/cut:1")
    async with CuttingProxy(registry, [9 << 20, 3 << 20]) as proxy:
        # this registry forgets a broken session, so the blob is sent from its beginning
        await engine.images.tag("made/cut:1", f"{proxy.address}/cut", "1")
        events = await engine.push(f"{proxy.address}/cut:1")
        assert said(events, tar) == ["Preparing", "Pushed"]
        assert not proxy.cuts, "both cuts happened"
    assert manifest(registry, "cut:1")
    await engine.pull(f"{registry}/cut:1")


async def test_whoever_leaves_ends_the_push(engine: Engine, registry: str, tmp_path: Path) -> None:
    tar = layer({"noise": os.urandom(4 << 20)})
    await loaded(engine, tmp_path, [tar], "made/left:1")
    await engine.images.tag("made/left:1", f"{registry}/left", "1")
    work = engine.images.push(f"{registry}/left:1")
    await anext(work)
    await work.aclose()
    assert not engine.leases.held()
    assert said(await engine.push(f"{registry}/left:1"), tar)[-1] == "Pushed"
