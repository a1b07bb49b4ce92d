"""Pulling from Debian's docker-registry into the real store; loading, importing, removing."""

import asyncio
import gzip
import hashlib
import io
import os
import socket
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skiff.docker.filters import Filters
from skiff.engine.images.progress import Progress
from skiff.engine.images.record import ImageUse
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.errors import Conflict, InvalidParameter, NotFound, NotImplementedHere, SkiffError, Unavailable
from skiff.oci.digest import ImageID, of
from skiff.oci.platform import Platform
from tests.fakes.registry import FakeRegistry
from tests.integration.image_store import MARKS, Engine, layer, layout, push

pytestmark = MARKS


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    await engine.close()


def statuses(events: list[Progress], id: str) -> list[str]:
    return [event.status or "" for event in events if event.id == id]


async def test_pulls_an_image_of_several_layers(engine: Engine, registry: str, tmp_path: Path) -> None:
    layers = [layer({"etc/one": b"1", "etc/two": b"old"}), layer({"etc/two": b"new"}), layer({"three": b"3"})]
    id = layout(tmp_path / "layout", layers)
    push(tmp_path / "layout", f"{registry}/team/app:1")
    events = await engine.pull(f"{registry}/team/app", tag="1")
    assert (events[0].status, events[0].id) == ("Pulling from team/app", "1")
    assert events[-1].status == f"Status: Downloaded newer image for {registry}/team/app:1"
    digest = (events[-2].status or "").removeprefix("Digest: ")
    short = hashlib.sha256(gzip.compress(layers[0], 1, mtime=0)).hexdigest()[:12]
    said = statuses(events, short)
    assert said[0] == "Pulling fs layer"
    assert said[-1] == "Pull complete"
    assert said.index("Verifying Checksum") < said.index("Download complete") < said.index("Extracting")

    image = await engine.images.resolve(f"{registry}/team/app:1")
    assert image.id == id
    assert image.chain is not None
    assert engine.file(image.chain, "etc/two") == b"new"
    assert engine.file(image.chain, "etc/one") == b"1"
    (row,) = await engine.images.list()
    assert row.repo_tags == (f"{registry}/team/app:1",)
    assert row.repo_digests == (f"{registry}/team/app@{digest}",)
    assert (await engine.images.resolve(id[7:19])).id == id
    assert (await engine.images.resolve(f"{registry}/team/app@{digest}")).id == id
    again = await engine.pull(f"{registry}/team/app:1")
    assert [event.status for event in again][-1] == f"Status: Image is up to date for {registry}/team/app:1"
    assert not engine.leases.held()
    assert engine.events == [("pull", f"{registry}/team/app:1")] * 2

    (tmp_path / "second").mkdir()
    by_digest = Engine(tmp_path / "second")
    try:
        events = await by_digest.pull(f"{registry}/team/app", tag=digest)
        assert events[0].id == digest
        (row,) = await by_digest.images.list()
        assert row.repo_tags == ()
        assert row.repo_digests == (f"{registry}/team/app@{digest}",)
    finally:
        await by_digest.close()


async def test_an_index_gives_this_machines_image(engine: Engine, registry: str, tmp_path: Path) -> None:
    layout(tmp_path / "layout", [layer({"a": b"a"})], ("arm64", "amd64"))
    push(tmp_path / "layout", f"{registry}/multi:1")
    await engine.pull(f"{registry}/multi:1")
    image = await engine.images.resolve(f"{registry}/multi:1")
    assert image.config.architecture == "amd64"
    await_error = engine.images.pull(
        f"{registry}/multi:1", platform=Platform(architecture="s390x", os="linux")
    )
    seen: list[str | None] = []
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        async for event in await_error:
            seen.append(event.status)
    assert seen == ["Pulling from multi"]


async def test_a_lone_image_of_another_platform_comes_with_a_warning(
    engine: Engine, registry: str, tmp_path: Path
) -> None:
    layout(tmp_path / "layout", [layer({"a": b"a"})])
    name = f"{registry}/lone:1"
    push(tmp_path / "layout", name)
    pulling = engine.images.pull(name, platform=Platform(architecture="arm64", os="linux"))
    said = [event.status async for event in pulling]
    assert said[-2:] == [
        f"Status: Downloaded newer image for {name}",
        f"WARNING: image with reference {name} was found but its platform (linux/amd64)"
        " does not match the specified platform (linux/arm64)",
    ]
    pulling = engine.images.pull(name, platform=Platform(architecture="amd64", os="linux"))
    assert [event.status async for event in pulling][-1] == f"Status: Image is up to date for {name}"


async def test_every_tag(engine: Engine, registry: str, tmp_path: Path) -> None:
    for tag in ("1", "2"):
        layout(tmp_path / tag, [layer({"tag": tag.encode()})])
        push(tmp_path / tag, f"{registry}/many:{tag}")
    events = await engine.pull(f"{registry}/many")
    assert events[-1].status == f"Status: Downloaded newer image for {registry}/many"
    assert {tag for row in await engine.images.list() for tag in row.repo_tags or ()} == {
        f"{registry}/many:1",
        f"{registry}/many:2",
    }


async def test_a_blob_goes_on_where_it_broke_off(engine: Engine, registry: str, tmp_path: Path) -> None:
    big = layer({"noise": os.urandom(1 << 20)})
    layout(tmp_path / "layout", [big])
    push(tmp_path / "layout", f"{registry}/resume:1")
    packed = gzip.compress(big, 1, mtime=0)
    digest = f"sha256:{hashlib.sha256(packed).hexdigest()}"
    ingest = engine.content.ingest(f"blob {digest}")
    ingest.write(packed[:700_000])
    ingest.close()
    await engine.pull(f"{registry}/resume:1")
    # and bytes that are wrong are fetched anew
    other = layer({"noise": os.urandom(1 << 20)})
    layout(tmp_path / "other", [other])
    push(tmp_path / "other", f"{registry}/resume:2")
    packed = gzip.compress(other, 1, mtime=0)
    ingest = engine.content.ingest(f"blob sha256:{hashlib.sha256(packed).hexdigest()}")
    ingest.write(b"x" * 1000)
    ingest.close()
    await engine.pull(f"{registry}/resume:2")
    assert len(await engine.images.list()) == 2


async def test_two_pulls_share_the_work(engine: Engine, registry: str, tmp_path: Path) -> None:
    layout(tmp_path / "layout", [layer({str(n): os.urandom(100_000)}) for n in range(5)])
    push(tmp_path / "layout", f"{registry}/shared:1")
    first, second = await asyncio.gather(
        engine.pull(f"{registry}/shared:1"), engine.pull(f"{registry}/shared:1")
    )
    assert len(await engine.images.list()) == 1
    assert {info.kind for info in engine.snapshots.walk()} == {"committed"}
    for events in (first, second):
        assert (events[-1].status or "").startswith("Status: ")


async def test_what_is_not_there(engine: Engine, registry: str) -> None:
    with pytest.raises(NotFound) as missing:
        await engine.pull(f"{registry}/nope:1")
    assert str(missing.value) == (
        f"manifest for {registry}/nope:1 not found: manifest unknown: manifest unknown"
    )
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unavailable) as refused:
            await engine.pull(f"{where}/x:1")
    assert str(refused.value) == f'Get "http://{where}/v2/": dial tcp {where}: connect: connection refused'


async def test_remove_leaves_nothing(engine: Engine, registry: str, tmp_path: Path) -> None:
    id = layout(tmp_path / "layout", [layer({"a": b"a"}), layer({"b": b"b"})])
    push(tmp_path / "layout", f"{registry}/gone:1")
    await engine.pull(f"{registry}/gone:1")
    await engine.images.tag(f"{registry}/gone:1", "other", "x")
    done = await engine.images.remove("other:x")
    assert [one.untagged for one in done] == ["other:x"]
    engine.uses.append((id, ImageUse("c" * 64, False, "gone")))
    with pytest.raises(Conflict) as used:
        await engine.images.remove(f"{registry}/gone:1")
    assert str(used.value) == (
        f'conflict: unable to remove repository reference "{registry}/gone:1" (must force)'
        f" - container cccccccccccc is using its referenced image {id[7:19]}"
    )
    engine.uses.clear()
    done = await engine.images.remove(f"{registry}/gone:1")
    assert done[0].untagged == f"{registry}/gone:1"
    assert next(one.deleted for one in done if one.deleted) == ImageID(id)
    assert list(engine.snapshots.walk()) == []
    assert list(engine.content.walk()) == []
    assert await engine.images.list(Filters()) == []


async def test_a_pull_finds_the_bytes_of_a_removed_image(registry: str, tmp_path: Path) -> None:
    """What lies in the trash is not fetched again; it can be saved and pushed all the same."""
    layout(tmp_path / "layout", [layer({"a": b"a" * 100})])
    push(tmp_path / "layout", f"{registry}/again:1")
    archive = tmp_path / "archive.tar"
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{tmp_path}/layout", f"docker-archive:{archive}:{registry}/again:1"],
        check=True,
    )
    engine = Engine(tmp_path, keeping=True)
    try:
        loaded = [event async for event in engine.images.load(chunks(archive.read_bytes()))]
        assert loaded[-1].stream == f"Loaded image: {registry}/again:1\n"
        await engine.images.remove(f"{registry}/again:1")
        await engine.pull(f"{registry}/again:1")
        saved = b"".join([piece async for piece in engine.images.saver.save([f"{registry}/again:1"])])
        assert b"a" * 100 in saved
    finally:
        await engine.close()


async def test_an_archive_without_images_takes_nothing_along(tmp_path: Path) -> None:
    """Some of its files are a removed image's, that can come back, and of what comes in just now."""
    layout(tmp_path / "layout", [layer({"a": b"a" * 100})])
    archive = tmp_path / "archive.tar"
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{tmp_path}/layout", f"oci-archive:{archive}:example.org/app:7"],
        check=True,
    )
    out = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=out, mode="w") as new:
        for entry in old:
            if entry.isfile() and "blobs" in entry.name:
                new.addfile(entry, old.extractfile(entry))
        for data in (b"held", b"of nobody"):
            entry = tarfile.TarInfo(f"blobs/sha256/{hashlib.sha256(data).hexdigest()}")
            entry.size = len(data)
            new.addfile(entry, io.BytesIO(data))
    engine = Engine(tmp_path, keeping=True)
    try:
        [event async for event in engine.images.load(chunks(archive.read_bytes()))]
        await engine.images.remove("example.org/app:7")
        before = {blob.digest for blob in engine.content.walk()}
        held = of(b"held")
        with engine.leases.hold(held):
            with pytest.raises(InvalidParameter, match="invalid archive"):
                [event async for event in engine.images.load(chunks(out.getvalue()))]
            assert {blob.digest for blob in engine.content.walk()} == before | {held}
    finally:
        await engine.close()


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("packed", [False, True])
async def test_load(engine: Engine, tmp_path: Path, kind: str, packed: bool) -> None:
    layers = [layer({"a": b"a" * 100_000}), layer({"b": b"b"})]
    id = layout(tmp_path / "layout", layers)
    archive = tmp_path / "archive.tar"
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{tmp_path}/layout", f"{kind}:{archive}:example.org/app:7"], check=True
    )
    data = archive.read_bytes()
    events = [event async for event in engine.images.load(chunks(gzip.compress(data) if packed else data))]
    assert events[-1].stream == "Loaded image: example.org/app:7\n"
    image = await engine.images.resolve("example.org/app:7")
    assert image.chain is not None
    assert engine.file(image.chain, "a") == b"a" * 100_000
    if kind == "oci-archive":
        assert image.id == id
    await engine.images.remove("example.org/app:7")
    assert list(engine.content.walk()) == []


async def test_import(engine: Engine) -> None:
    tar = layer({"hello": b"world"})
    events = [
        event
        async for event in engine.images.import_tar(
            chunks(tar), reference="mine", changes=['CMD ["/hello"]', "ENV A=1 B=2"], message="by hand"
        )
    ]
    image = await engine.images.resolve("mine")
    assert events[-1].status == image.id
    assert image.config.run.cmd == ("/hello",)
    assert image.config.run.env == ("A=1", "B=2")
    assert (await engine.images.history("mine"))[0].comment == "by hand"


async def test_the_machine_itself_is_an_image(engine: Engine) -> None:
    image = await engine.images.resolve("host")
    assert image.chain is not None
    engine.mask = image.chain.removeprefix("sha256:")
    assert engine.snapshots.lowers(image.chain) == ["/"]
    assert (await engine.images.resolve("host:latest")).chain == image.chain
    assert (await engine.images.inspect("host")).id == image.id
    assert await engine.images.list() == []
    with pytest.raises(Conflict):
        await engine.images.remove("host", force=True)
    events = [event async for event in engine.images.pull("host")]
    assert events[-1].status == "Status: host is this machine: there is nothing to pull"
    # as a container sees it: in a mount namespace of its own
    (view,) = engine.snapshots.prepare(SnapshotKey("seen"), image.chain)
    root = engine.root / "mounted"
    root.mkdir()
    script = (
        f"mount -t overlay overlay -o '{','.join(view.options)}' {root} && "
        f"cd {root} && ls -d bin etc/passwd; ls etc/shadow; ls -A tmp root/.ssh proc; "
        f"touch etc/by-container; ls .{engine.root}; cd /; umount {root}"
    )
    shell = ["unshare", "-m", "sh", "-c", script]
    seen = subprocess.run(shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    assert "etc/passwd" in seen, seen
    assert "cannot access 'etc/shadow'" in seen, seen
    assert engine.images.roots() == [image.chain]
    assert "state.db" not in seen
    assert not os.path.lexists("/etc/by-container")
    engine.snapshots.remove(SnapshotKey("seen"))
    with pytest.raises(SkiffError):
        await engine.images.tag("host", "x")


async def test_a_manifest_of_the_old_kind_is_refused(engine: Engine) -> None:
    fake = FakeRegistry()
    await fake.start()
    try:
        fake.put_manifest("old", "1", {"schemaVersion": 1, "fsLayers": []}, "application/json")
        with pytest.raises(NotImplementedHere) as old:
            await engine.pull(f"{fake.address}/old:1")
    finally:
        await fake.stop()
    assert str(old.value).startswith("[DEPRECATION NOTICE] Docker Image Format v1")
    assert f"Suggest the author of {fake.address}/old:1 to upgrade" in str(old.value)
