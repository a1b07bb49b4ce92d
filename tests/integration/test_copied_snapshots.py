"""An engine that copies its snapshots, as where overlayfs does not work: slower, and otherwise the same."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import Engine


@pytest.fixture
def copying(busybox_archive: bytes) -> Iterator[Engine]:
    engine = Engine("--storage-driver", "vfs")
    try:
        engine.start()
        assert engine.client.post("/images/load", busybox_archive).status == 200
        yield engine
    finally:
        engine.close()


pytestmark = pytest.mark.root


def test_a_container_s_life_on_a_copy(copying: Engine, tmp_path: Path) -> None:
    assert copying.skiff("info", "-f", "{{.Driver}}").ok() == "vfs"
    assert copying.skiff("run", "--rm", "busybox", "echo", "hi").ok() == "hi"
    script = "echo new >/new && rm /bin/busybox.none; rm -r /etc/group; echo x >>/etc/passwd"
    copying.skiff("run", "--name", "box", "busybox", "sh", "-c", script).ok()
    trees = [path.parent for path in Path(copying.root, "data/snapshots").glob("*/fs/bin")]
    assert len(trees) == 2  # the image's, and the container's whole copy of it
    assert copying.skiff("diff", "box").ok().split("\n") == [
        "C /etc",
        "D /etc/group",
        "C /etc/passwd",
        "A /new",
    ]
    copying.skiff("commit", "box", "mine").ok()
    assert copying.skiff("run", "--rm", "mine", "cat", "/new").ok() == "new"
    assert copying.skiff("run", "--rm", "mine", "ls", "/etc/group").code == 1
    saved = tmp_path / "mine.tar"
    copying.skiff("save", "-o", str(saved), "mine").ok()
    assert _names_of_the_last_layer(saved) == {"etc", "etc/.wh.group", "etc/passwd", "new"}
    assert copying.client.get("/skiff/check").json() == {"Problems": []}


def _names_of_the_last_layer(archive: Path) -> set[str]:
    with tarfile.open(archive) as outer:
        layers = [outer.extractfile(m) for m in outer.getmembers() if m.isfile()]
        for file in layers[::-1]:
            assert file is not None
            try:
                with tarfile.open(fileobj=io.BytesIO(file.read())) as layer:
                    names = set(layer.getnames())
            except tarfile.TarError:
                continue
            if "new" in names:
                return names
    return set()


def test_a_build_on_copies(copying: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN echo one >/one && rm /etc/group\nCOPY file /two\nRUN true\nCMD cat /one /two\n"
    )
    (tmp_path / "file").write_text("two\n")
    copying.skiff("build", "-t", "built", str(tmp_path)).ok()
    assert copying.skiff("run", "--rm", "built").ok() == "one\ntwo"
    assert copying.skiff("run", "--rm", "built", "ls", "/etc/group").code == 1


def test_the_image_host_says_what_it_needs(copying: Engine) -> None:
    done = copying.skiff("run", "--rm", "host", "true")
    assert done.code == 125
    assert "the image host needs overlayfs" in done.err


def test_a_root_of_copies_stays_one(copying: Engine) -> None:
    copying.stop()
    copying.flags = ("--storage-driver", "overlay2")
    with pytest.raises(AssertionError, match="holds snapshots of the storage driver vfs"):
        copying.start()
    copying.flags = ()
    copying.start()
    assert copying.skiff("info", "-f", "{{.Driver}}").ok() == "vfs"
    assert copying.skiff("run", "--rm", "busybox", "echo", "hi").ok() == "hi"
