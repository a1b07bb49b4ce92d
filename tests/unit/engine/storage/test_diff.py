import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from skiff.engine.storage import diff
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.diff import Change
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.plain import PlainSnapshots
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.engine.storage.state import MemoryState
from skiff.errors import SkiffError
from skiff.oci.digest import ChainID

Kind = type[OverlaySnapshots] | type[PlainSnapshots]


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive.getmembers()}


def grow(root: Path) -> None:
    """Some of everything, without privileges."""
    (root / "dir" / "sub").mkdir(parents=True)
    (root / "dir" / ("n" * 200)).write_text("long name")
    (root / "dir" / "file").write_bytes(b"x" * 1000)
    os.chmod(root / "dir" / "file", 0o4755)
    os.link(root / "dir" / "file", root / "hard")
    os.symlink("dir/file", root / "sym")
    os.mkfifo(root / "fifo")
    (root / "ümlaut").touch()
    os.setxattr(root / "dir", "user.a", b"b\0c")


def described(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content: object = ""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        found[str(path.relative_to(root))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            int(status.st_mtime),
            status.st_nlink if not path.is_dir() else 0,
            content,
            xattrs,
        )
    return found


def test_a_tree_as_a_layer(tmp_path: Path) -> None:
    grow(tmp_path)
    data = b"".join(diff.tree_layer(str(tmp_path)))
    assert data == b"".join(diff.tree_layer(str(tmp_path)))
    found = members(data)
    assert list(found) == ["dir", "dir/file", "dir/" + "n" * 200, "dir/sub", "fifo", "hard", "sym", "ümlaut"]
    assert found["hard"].islnk()
    assert found["hard"].linkname == "dir/file"
    assert found["dir/file"].mode == 0o4755
    assert found["sym"].linkname == "dir/file"


def test_what_differs_between_trees(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for root in (old, new):
        (root / "same").mkdir(parents=True)
        (root / "same" / "file").write_text("a")
        (root / "changed").write_text("a")
        os.utime(root / "same" / "file", ns=(0, 0))
    (old / "gone" / "deep").mkdir(parents=True)
    (new / "changed").write_text("bb")
    (new / "added").touch()
    assert diff.tree_changes(str(new), str(old)) == [
        Change("A", "/added"),
        Change("C", "/changed"),
        Change("D", "/gone"),
    ]
    assert list(members(b"".join(diff.tree_layer(str(new), str(old))))) == [".wh.gone", "added", "changed"]


def test_a_file_that_shrinks_while_it_is_read_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1_000_000)
    (tmp_path / "b").write_bytes(b"y")
    chunks = diff.tree_layer(str(tmp_path))
    data = next(chunks) + next(chunks)
    (tmp_path / "a").write_bytes(b"")
    found = members(data + b"".join(chunks))
    assert found["a"].size == 1_000_000
    assert "b" in found


def test_sockets_are_left_out(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    assert members(b"".join(diff.tree_layer(str(tmp_path)))) == {}


@pytest.mark.root
def test_an_overlays_changes(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for name in ("kept/file", "deleted", "replaced/old", "changed"):
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).write_text(name)
    for name in ("upper", "work", "m"):
        (tmp_path / name).mkdir()
    script = f"""
        mount -t overlay o -o lowerdir={lower},upperdir={upper},workdir={tmp_path}/work {tmp_path}/m
        cd {tmp_path}/m
        rm deleted; rm -r replaced; mkdir replaced; touch replaced/new; echo x >> changed
        mkdir made; touch made/file; touch kept/added
    """
    subprocess.run(["unshare", "-m", "sh", "-ec", script], check=True)
    assert diff.changes(str(upper), [str(lower)]) == [
        Change("C", "/changed"),
        Change("D", "/deleted"),
        Change("C", "/kept"),
        Change("A", "/kept/added"),
        Change("A", "/made"),
        Change("A", "/made/file"),
        Change("C", "/replaced"),
        Change("A", "/replaced/new"),
        Change("D", "/replaced/old"),
    ]
    assert list(members(b"".join(diff.upper_layer(str(upper), [str(lower)])))) == [
        "changed",
        ".wh.deleted",
        "kept",
        "kept/added",
        "made",
        "made/file",
        "replaced",
        "replaced/.wh..wh..opq",
        "replaced/new",
    ]


@pytest.mark.root
def test_what_lower_layers_hide_is_not_there(tmp_path: Path) -> None:
    for name in ("bottom/a/file", "bottom/b/file", "upper/a/file", "upper/b/file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "middle" / "b").mkdir(parents=True)
    os.mknod(tmp_path / "middle" / "a", stat.S_IFCHR)
    os.setxattr(tmp_path / "middle" / "b", "trusted.overlay.opaque", b"y")
    lowers = [str(tmp_path / "middle"), str(tmp_path / "bottom")]
    assert diff.changes(str(tmp_path / "upper"), lowers) == [
        Change("A", "/a"),
        Change("A", "/a/file"),
        Change("C", "/b"),
        Change("A", "/b/file"),
    ]


@pytest.mark.root
def test_redirects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    os.setxattr(tmp_path / "dir", "trusted.overlay.redirect", b"other")
    with pytest.raises(SkiffError, match="redirects"):
        b"".join(diff.upper_layer(str(tmp_path), []))


@pytest.mark.root
@pytest.mark.parametrize("kind", [OverlaySnapshots, PlainSnapshots])
def test_applied_diffs_come_to_the_same(
    tmp_path: Path, kind: type[OverlaySnapshots | PlainSnapshots]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    grow(source)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(source / "sym", 1234, 3_000_000, follow_symlinks=False)
    with open(tmp_path / "layer", "wb+") as layer:
        for chunk in diff.tree_layer(str(source)):
            layer.write(chunk)
        layer.flush()
        snapshots: Snapshotter = kind(str(tmp_path / "s"), MemoryState())
        layers = Layers(snapshots)
        layers.commit(layers.extract(layer), ChainID("a"), None)
    snapshots.prepare(SnapshotKey("b"), ChainID("a"))
    layers.close()
    assert described(Path(snapshots.directory(ChainID("a")))) == described(source)
