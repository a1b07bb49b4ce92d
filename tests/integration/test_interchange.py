"""Archives of images that others read, and theirs that we read: skopeo and umoci."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.engines import Engine

POLICY = "--insecure-policy"
TAG = "interchange:1"


@pytest.fixture
def saved(engine: Engine, tmp_path: Path) -> Path:
    """What `save` writes of an image with two layers: the upper one brings, changes and deletes."""
    script = "echo new >/etc/new; rm /bin/vi; mkdir -m 700 /srv; ln -s new /etc/link; chown 5:6 /etc/new"
    assert engine.skiff("run", "--name", "made", "busybox", "sh", "-c", script).code == 0
    assert engine.skiff("commit", "-c", "LABEL a=b", "made", TAG).code == 0
    assert engine.skiff("save", "-o", str(tmp_path / "saved.tar"), TAG).code == 0
    assert engine.skiff("rm", "made").code == 0
    return tmp_path / "saved.tar"


def _tool(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _id(engine: Engine, name: str = TAG) -> str:
    done = engine.skiff("image", "inspect", "-f", "{{.Id}}", name)
    assert done.code == 0, done
    return done.out.strip()


def _runs(engine: Engine) -> None:
    script = "cat /etc/new; stat -c %u:%g /etc/new; ls /bin/vi 2>&1; stat -c %a /srv"
    done = engine.skiff("run", "--rm", TAG, "sh", "-c", script)
    assert done.out == "new\n5:6\nls: /bin/vi: No such file or directory\n700\n"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_save_writes(engine: Engine, saved: Path, form: str) -> None:
    name = f":{TAG}" if form == "docker-archive" else ""
    found = json.loads(_tool("skopeo", "inspect", f"{form}:{saved}{name}"))
    assert found["Labels"] == {"a": "b"}
    assert len(found["Layers"]) == 2


@pytest.mark.parametrize(
    ("form", "compression"),
    [("docker-archive", ""), ("oci-archive", ""), ("oci-archive", "gzip"), ("oci-archive", "zstd")],
)
def test_an_image_survives_the_way_through_skopeo(
    engine: Engine, saved: Path, tmp_path: Path, form: str, compression: str
) -> None:
    id = _id(engine)
    words = ["--dest-compress", "--dest-compress-format", compression] if compression else []
    target = f"{form}:{tmp_path}/theirs.tar:{TAG if form == 'docker-archive' else f'docker.io/library/{TAG}'}"
    _tool("skopeo", "copy", "-q", POLICY, *words, f"oci-archive:{saved}", target)
    assert engine.skiff("rmi", "-f", TAG).code == 0
    assert engine.skiff("trash", "empty", "-f").code == 0
    assert engine.skiff("load", "-i", str(tmp_path / "theirs.tar")).out == f"Loaded image: {TAG}\n"
    assert _id(engine) == id
    _runs(engine)


def test_umoci_unpacks_what_save_writes_and_we_load_what_it_packs(
    engine: Engine, saved: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    shutil.unpack_archive(saved, layout, filter="data")
    image = f"{layout}:1"
    assert "1" in _tool("umoci", "list", "--layout", str(layout)).split()
    _tool("umoci", "unpack", "--image", image, str(tmp_path / "bundle"))
    rootfs = tmp_path / "bundle/rootfs"
    assert (rootfs / "etc/new").read_text() == "new\n"
    assert not (rootfs / "bin/vi").exists()
    (rootfs / "etc/theirs").write_text("umoci was here\n")
    (rootfs / "etc/new").unlink()
    _tool("umoci", "repack", "--image", image, str(tmp_path / "bundle"))
    (layout / "manifest.json").unlink()  # Docker's own table, which umoci does not know
    _tool("tar", "cf", str(tmp_path / "theirs.tar"), "-C", str(layout), ".")
    done = engine.skiff("load", "-i", str(tmp_path / "theirs.tar"))
    assert done.out == f"Loaded image: {TAG}\n"
    shown = engine.skiff("run", "--rm", TAG, "sh", "-c", "cat /etc/theirs; ls /etc/new 2>&1")
    assert shown.out == "umoci was here\nls: /etc/new: No such file or directory\n"
