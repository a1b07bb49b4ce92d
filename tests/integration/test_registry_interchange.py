"""What is pushed in one compression or the other, skopeo reads back and other engines of ours run; and the
reverse.
"""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skiff.engine.images.progress import Progress
from tests.integration.image_store import MARKS, Engine, layer, layout, push, serving

pytestmark = MARKS
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
LAYERS = [layer({"etc/one": b"1" * 5000, "noise": os.urandom(300_000)}), layer({"etc/two": b"2"})]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    await engine.close()


def manifest(name: str) -> dict[str, Any]:
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def plain(directory: Path, descriptor: dict[str, Any]) -> bytes:
    """A blob of an OCI layout, without its compression."""
    data = (directory / "blobs/sha256" / descriptor["digest"][7:]).read_bytes()
    if descriptor["mediaType"].endswith("gzip"):
        return gzip.decompress(data)
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    out: bytes = zstd.decompress(data)
    return out


async def pushed(engine: Engine, name: str, form: str) -> list[Progress]:
    work = engine.images.push(name, form=form)  # type: ignore[arg-type]
    return [event async for event in work]


@pytest.mark.parametrize("form", ["gzip", "zstd"])
async def test_skopeo_reads_what_we_push(engine: Engine, registry: str, tmp_path: Path, form: str) -> None:
    id = layout(tmp_path / "in", LAYERS)
    push(tmp_path / "in", f"{registry}/from/{form}:1")
    came = manifest(f"{registry}/from/{form}:1")
    await engine.pull(f"{registry}/from/{form}:1")
    await engine.images.tag(f"{registry}/from/{form}:1", f"{registry}/to/{form}", "2")
    await pushed(engine, f"{registry}/to/{form}:2", form)
    went = manifest(f"{registry}/to/{form}:2")
    if form == "gzip":
        assert went == came, "it is in that compression already"
    else:
        assert [one["mediaType"] for one in went["layers"]] == [ZSTD] * 2
    assert went["config"]["digest"] == id
    out = tmp_path / "out"
    copy = [
        "skopeo",
        "copy",
        "-q",
        "--src-tls-verify=false",
        f"docker://{registry}/to/{form}:2",
        f"oci:{out}",
    ]
    subprocess.run(copy, check=True)
    assert [plain(out, one) for one in went["layers"]] == LAYERS
    (tmp_path / "second").mkdir()
    second = Engine(tmp_path / "second")
    try:
        await second.pull(f"{registry}/to/{form}:2")
        image = await second.images.resolve(f"{registry}/to/{form}:2")
        assert image.id == id
        assert image.chain is not None and second.file(image.chain, "etc/one") == b"1" * 5000
        # and from zstd back to gzip
        await second.images.tag(f"{registry}/to/{form}:2", f"{registry}/back/{form}", "3")
        await pushed(second, f"{registry}/back/{form}:3", "gzip")
        assert all(
            one["mediaType"].endswith("gzip") for one in manifest(f"{registry}/back/{form}:3")["layers"]
        )
    finally:
        await second.close()


async def test_what_was_compressed_once_is_known(engine: Engine, registry: str, tmp_path: Path) -> None:
    layout(tmp_path / "in", [layer({"noise": os.urandom(400_000)})])
    push(tmp_path / "in", f"{registry}/once:1")
    await engine.pull(f"{registry}/once:1")
    before = {blob.digest for blob in engine.content.walk()}
    await engine.images.tag(f"{registry}/once:1", f"{registry}/once", "z")
    await pushed(engine, f"{registry}/once:z", "zstd")
    made = {blob.digest for blob in engine.content.walk()} - before
    (blob,) = manifest(f"{registry}/once:z")["layers"]
    assert blob["digest"] not in made, "what a push has made for itself goes with it"
    assert not engine.leases.held()
    again = await pushed(engine, f"{registry}/once:z", "zstd")
    assert "Layer already exists" in [event.status for event in again]
    assert blob["digest"] not in {one.digest for one in engine.content.walk()}, "nothing was compressed"
    # a registry that has it not gets the same bytes, made again
    with serving(tmp_path / "other") as other:
        await engine.images.tag(f"{registry}/once:1", f"{other}/once", "z")
        await pushed(engine, f"{other}/once:z", "zstd")
        assert manifest(f"{other}/once:z")["layers"] == [blob]


async def test_skopeo_pushes_zstd_and_we_run_it(engine: Engine, registry: str, tmp_path: Path) -> None:
    # layers of its own: skopeo takes what it knows to be in a registry, in whatever compression
    id = layout(tmp_path / "in", [layer({"noise": os.urandom(300_000)}), layer({"etc/two": os.urandom(9)})])
    where = f"{registry}/skopeos/zstd:1"
    copy = ["skopeo", "copy", "-q", "--format", "oci"]
    subprocess.run([*copy, "--dest-decompress", f"oci:{tmp_path}/in", f"dir:{tmp_path}/plain"], check=True)
    zstd = ["--dest-tls-verify=false", "--dest-compress-format", "zstd"]
    subprocess.run([*copy, *zstd, f"dir:{tmp_path}/plain", f"docker://{where}"], check=True)
    assert all(one["mediaType"] == ZSTD for one in manifest(where)["layers"])
    await engine.pull(where)
    image = await engine.images.resolve(where)
    assert image.id == id and image.chain is not None
    assert len(engine.file(image.chain, "noise")) == 300_000
    # it goes on as it came
    await engine.images.tag(where, f"{registry}/goes/on", "1")
    await engine.push(f"{registry}/goes/on:1")
    assert manifest(f"{registry}/goes/on:1") == manifest(where)
