"""Pulling from Debian's docker-registry into the real store; loading, importing, removing."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from skiff.docker.filters import Filters
from skiff.engine.images.host import HostImage
from skiff.engine.images.progress import Progress
from skiff.engine.images.record import ImageUse
from skiff.engine.images.service import Images
from skiff.engine.registry.client import Registries
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.transport import HttpTransport
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.engine.storage.state import SqliteState
from skiff.errors import Conflict, NotFound, SkiffError, Unavailable
from skiff.oci.digest import ChainID, ImageID
from skiff.oci.platform import Platform

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root"),
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="needs Debian's docker-registry"),
    pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo"),
]
PLATFORM = Platform(architecture="amd64", os="linux")


class Engine:
    """The image noun on a real store in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = SqliteState(str(root / "state.db"))
        self.content = FileContent(str(root / "content"))
        self.snapshots = OverlaySnapshots(str(root / "snapshots"), self.state)
        self.layers = Layers(self.snapshots)
        self.leases = Leases(self.state)
        self.transport = HttpTransport()
        self.events: list[tuple[str, str]] = []
        self.uses: list[tuple[str, ImageUse]] = []
        self.images = Images(
            state=self.state,
            content=self.content,
            snapshots=self.snapshots,
            layers=self.layers,
            leases=self.leases,
            registries=Registries(self.transport, Hosts()),
            host=HostImage(self.snapshots, self.state, PLATFORM, own=[str(root)]),
            platform=PLATFORM,
            in_use=lambda id: [use for image, use in self.uses if image == id],
            publish=self.publish,
        )

    mask = "none"

    def publish(self, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        self.events.append((action, actor))

    async def close(self) -> None:
        await self.transport.close()
        self.images.close()
        self.layers.close()
        self.state.close()
        for mask in Path("/dev/shm").glob(f"skiff-masks-*/{self.mask}"):
            shutil.rmtree(mask.parent)

    async def pull(self, reference: str, tag: str = "") -> list[Progress]:
        return [event async for event in self.images.pull(reference, tag=tag)]

    def file(self, chain: str, path: str) -> bytes:
        name = ChainID(chain)
        for directory in (self.snapshots.directory(name), *self.snapshots.lowers(name)):
            if (Path(directory) / path).is_file():
                return (Path(directory) / path).read_bytes()
        raise FileNotFoundError(path)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry of our own."""
    root = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = root / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}, "
        f"delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with open(root / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (root / "log").read_text()
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def layer(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def layout(directory: Path, layers: list[bytes], architectures: tuple[str, ...] = ("amd64",)) -> str:
    """An OCI layout with one image per architecture. The id of the first."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def put(data: bytes, media_type: str) -> dict[str, object]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    base = "application/vnd.oci.image"
    packed = [put(gzip.compress(one, 1, mtime=0), f"{base}.layer.v1.tar+gzip") for one in layers]
    manifests, first = [], ""
    for architecture in architectures:
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["/bin/true"], "Labels": {"arch": architecture}},
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + hashlib.sha256(one).hexdigest() for one in layers],
            },
            "history": [{"created_by": f"step {number}"} for number in range(len(layers))],
        }
        stored = put(json.dumps(config).encode(), f"{base}.config.v1+json")
        first = first or str(stored["digest"])
        manifest = {"schemaVersion": 2, "mediaType": f"{base}.manifest.v1+json"}
        manifest |= {"config": stored, "layers": packed}
        entry = put(json.dumps(manifest).encode(), f"{base}.manifest.v1+json")
        manifests.append(entry | {"platform": {"architecture": architecture, "os": "linux"}})
    index: dict[str, object] = {"schemaVersion": 2, "manifests": manifests}
    if len(architectures) > 1:
        index |= {"mediaType": f"{base}.index.v1+json"}
        inner = put(json.dumps(index).encode(), f"{base}.index.v1+json")
        index = {"schemaVersion": 2, "manifests": [inner]}
    (directory / "index.json").write_text(json.dumps(index))
    return first


def push(directory: Path, target: str) -> None:
    subprocess.run(
        [
            "skopeo",
            "copy",
            "--all",
            "-q",
            "--dest-tls-verify=false",
            f"oci:{directory}",
            f"docker://{target}",
        ],
        check=True,
    )


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
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        [event async for event in await_error]


async def test_every_tag(engine: Engine, registry: str, tmp_path: Path) -> None:
    for tag in ("1", "2"):
        layout(tmp_path / tag, [layer({"tag": tag.encode()})])
        push(tmp_path / tag, f"{registry}/many:{tag}")
    events = await engine.pull(f"{registry}/many")
    assert events[-1].status == f"Status: Downloaded newer image for {registry}/many"
    assert {tag for row in await engine.images.list() for tag in row.repo_tags} == {
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
