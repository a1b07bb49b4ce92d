"""Engines that drop the compressed layers of images: what is pushed, saved and served all the same."""

import hashlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from skiff.oci.digest import Digest
from skiff.oci.reference import Reference
from tests.integration.engines import Engine as WholeEngine
from tests.integration.image_store import MARKS, Engine, layer, layout, push, serving

pytestmark = MARKS


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    (tmp_path / "store").mkdir()
    engine = Engine(tmp_path / "store", noting=True)
    yield engine
    await engine.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path / "elsewhere") as address:
        yield address


def kept(engine: Engine) -> int:
    """Bytes of all blobs."""
    return sum(blob.size for blob in engine.content.walk())


def inspected(image: str) -> dict[str, list[str]]:
    command = ["skopeo", "inspect", "--config", "--tls-verify=false", image]
    found: dict[str, dict[str, list[str]]] = json.loads(subprocess.check_output(command))
    return found["rootfs"]


async def test_a_pulled_image_takes_no_more_than_its_files(
    engine: Engine, registry: str, elsewhere: str, tmp_path: Path
) -> None:
    layers = [layer({"big": os.urandom(3 << 20)}), layer({"small": b"1"})]
    id = layout(tmp_path / "layout", layers)
    name = f"{registry}/app:1"
    push(tmp_path / "layout", name)
    pulled = await engine.pull(name)
    assert kept(engine) < 100_000
    assert (await engine.images.resolve(name)).id == id
    again = await engine.pull(name)
    assert again[-1].status == f"Status: Image is up to date for {name}"
    # to where it came from: as it came
    await engine.images.tag(name, f"{registry}/app", "2")
    pushed = await engine.push(f"{registry}/app", tag="2")
    assert [event.status for event in pushed].count("Layer already exists") == 2
    digest = next(event.status for event in pulled if (event.status or "").startswith("Digest: "))
    assert [event.aux["Digest"] for event in pushed if event.aux] == [str(digest).removeprefix("Digest: ")]
    # elsewhere: compressed anew, once
    await engine.images.tag(name, f"{elsewhere}/app", "1")
    pushed = await engine.push(f"{elsewhere}/app", tag="1")
    assert [event.status for event in pushed].count("Pushed") == 2
    pushed = await engine.push(f"{elsewhere}/app", tag="1")
    assert [event.status for event in pushed].count("Layer already exists") == 2
    diff_ids = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
    assert inspected(f"docker://{elsewhere}/app:1")["diff_ids"] == diff_ids
    # into an archive
    archive = tmp_path / "saved.tar"
    with open(archive, "wb") as file:
        async for chunk in engine.images.saver.save([name]):
            file.write(chunk)
    assert inspected(f"docker-archive:{archive}")["diff_ids"] == diff_ids
    # a second image on the same layers finds them here
    layout(tmp_path / "more", [*layers, layer({"third": b"3"})])
    push(tmp_path / "more", f"{registry}/more:1")
    events = await engine.pull(f"{registry}/more:1")
    assert [event.status for event in events].count("Already exists") == 2
    assert kept(engine) < 100_000


async def test_what_is_served_is_whole(engine: Engine, registry: str, tmp_path: Path) -> None:
    one = layer({"f": os.urandom(1 << 20)})
    layout(tmp_path / "layout", [one])
    name = f"{registry}/served:1"
    push(tmp_path / "layout", name)
    await engine.pull(name)
    assert kept(engine) < 100_000
    document = await engine.images.hosting.manifest(name.removesuffix(":1"), "1")
    for layer_ in json.loads(document.data)["layers"]:
        assert engine.content.info(Digest(layer_["digest"])).size == layer_["size"]


async def test_what_keeps_its_blob_has_no_notes(engine: Engine) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield layer({"f": b"imported"})

    [event async for event in engine.images.import_tar(body(), reference="imported")]
    assert kept(engine) > 10_000
    assert list(engine.root.glob("snapshots/*/fs")) != []
    assert list(engine.root.glob("snapshots/*/notes")) == []


async def test_an_image_that_is_removed_at_once_is_pulled_all_the_same(
    engine: Engine, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout(tmp_path / "layout", [layer({"f": b"short-lived"})])
    name = f"{registry}/short-lived:1"
    push(tmp_path / "layout", name)
    pull = engine.images._puller.pull

    async def and_removed(*args: Any) -> list[Reference]:
        pulled = await pull(*args)
        await engine.images.remove(name)
        return pulled

    monkeypatch.setattr(engine.images._puller, "pull", and_removed)
    events = await engine.pull(name)
    assert events[-1].status == f"Status: Downloaded newer image for {name}"


def test_an_engine_with_the_option(busybox_archive: bytes, tmp_path: Path) -> None:
    running = WholeEngine("--compressed-layers", "drop")
    try:
        running.start()
        assert b"errorDetail" not in running.client.post("/images/load", busybox_archive).body
        blobs = Path(running.root, "data/content/blobs/sha256")
        assert sum(file.stat().st_size for file in blobs.iterdir()) < 100_000
        assert (
            running.skiff("run", "--rm", "--network", "none", "busybox", "echo", "it runs").ok() == "it runs"
        )
        running.skiff("save", "-o", f"{tmp_path}/a.tar", "busybox").ok()
        running.skiff("rmi", "busybox").ok()
        running.skiff("load", "-i", f"{tmp_path}/a.tar").ok()
        assert running.skiff("run", "--rm", "--network", "none", "busybox", "echo", "again").ok() == "again"
    finally:
        running.close()
