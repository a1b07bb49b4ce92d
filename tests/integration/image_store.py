"""The image noun on a real store, real registries to talk to, and images to put into them."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from skiff.engine.images.host import HostImage
from skiff.engine.images.progress import Progress
from skiff.engine.images.record import ImageUse
from skiff.engine.images.service import Images
from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import Registries
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.transport import HttpTransport
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.state import SqliteState
from skiff.oci.digest import ChainID
from skiff.oci.platform import Platform

PLATFORM = Platform(architecture="amd64", os="linux")
MARKS = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root"),
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="needs Debian's docker-registry"),
    pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo"),
]


class Engine:
    """The image noun on a real store in a directory. keeping: removed images may come back. noting:
    compressed layers are dropped.
    """

    def __init__(
        self, root: Path, hosts: Hosts | None = None, *, keeping: bool = False, noting: bool = False
    ) -> None:
        self.root = root
        self.state = SqliteState(str(root / "state.db"))
        self.content = FileContent(str(root / "content"))
        self.snapshots = OverlaySnapshots(str(root / "snapshots"), self.state)
        self.layers = Layers(self.snapshots, noting=noting)
        self.leases = Leases(self.state)
        self.transport = HttpTransport()
        self.registries = Registries(self.transport, hosts or Hosts())
        self.events: list[tuple[str, str]] = []
        self.uses: list[tuple[str, ImageUse]] = []
        self.images = Images(
            state=self.state,
            content=self.content,
            snapshots=self.snapshots,
            layers=self.layers,
            leases=self.leases,
            registries=self.registries,
            host=HostImage(self.snapshots, self.state, PLATFORM, own=[str(root)]),
            platform=PLATFORM,
            in_use=lambda id: [use for image, use in self.uses if image == id],
            publish=self.publish,
            bin=Bin(self.state, keeping=keeping),
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

    async def pull(
        self, reference: str, tag: str = "", credentials: Credentials | None = None
    ) -> list[Progress]:
        work = self.images.pull(reference, tag=tag, credentials=credentials)
        return [event async for event in work]

    async def push(
        self, reference: str, tag: str = "", credentials: Credentials | None = None
    ) -> list[Progress]:
        work = self.images.push(reference, tag=tag, credentials=credentials)
        return [event async for event in work]

    def file(self, chain: str, path: str) -> bytes:
        name = ChainID(chain)
        for directory in (self.snapshots.directory(name), *self.snapshots.lowers(name)):
            if (Path(directory) / path).is_file():
                return (Path(directory) / path).read_bytes()
        raise FileNotFoundError(path)


@contextmanager
def serving(root: Path, more: str = "", tls: str = "", host: str = "127.0.0.1") -> Iterator[str]:
    """The address of a registry of our own. more: of its configuration; tls: what its `http` has besides."""
    bare = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET) as probe:
        probe.bind((bare, 0))
        port = probe.getsockname()[1]
    root.mkdir(exist_ok=True)
    config = root / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}, "
        f"delete: {{enabled: true}}}}\nhttp: {{addr: '{host}:{port}'{tls}}}\n{more}"
    )
    with open(root / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((bare, port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (root / "log").read_text()
                time.sleep(0.05)
        yield f"{host}:{port}"
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
