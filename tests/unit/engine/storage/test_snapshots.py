import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.contracts.snapshotter_contract import BASE, KEY, TOP, SnapshotterContract, write
from tests.fakes.memory_snapshots import MemorySnapshots

from skiff.engine.storage import diff, plain
from skiff.engine.storage.overlay import OverlaySnapshots, escape
from skiff.engine.storage.plain import PlainSnapshots, choose
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.engine.storage.state import MemoryState
from skiff.errors import Conflict, InvalidParameter, SkiffError
from skiff.linux.mounts import lower_directories
from skiff.oci.digest import ChainID


class TestOverlay(SnapshotterContract):
    @pytest.fixture
    def snapshots(self, tmp_path: Path) -> Snapshotter:
        return OverlaySnapshots(str(tmp_path), MemoryState())


class TestPlain(SnapshotterContract):
    @pytest.fixture
    def snapshots(self, tmp_path: Path) -> Snapshotter:
        return PlainSnapshots(str(tmp_path), MemoryState())


class TestMemory(SnapshotterContract):
    @pytest.fixture
    def snapshots(self) -> Snapshotter:
        return MemorySnapshots()


def overlay(tmp_path: Path) -> OverlaySnapshots:
    return OverlaySnapshots(str(tmp_path / "snapshots"), MemoryState())


def chain(snapshots: Snapshotter) -> None:
    snapshots.prepare(KEY, None)
    write(snapshots, KEY, "base")
    snapshots.commit(BASE, KEY)
    snapshots.prepare(KEY, BASE)
    write(snapshots, KEY, "top")
    snapshots.commit(TOP, KEY)


def test_overlay_mounts_name_the_layers_topmost_first(tmp_path: Path) -> None:
    snapshots = overlay(tmp_path)
    chain(snapshots)
    [mount] = snapshots.prepare(KEY, TOP, volatile=True)
    top, base, own = (snapshots.directory(name) for name in (TOP, BASE, KEY))
    assert mount.type == "overlay"
    assert f"lowerdir={top}:{base}" in mount.options
    assert f"upperdir={own}" in mount.options
    assert "volatile" in mount.options
    [again] = snapshots.mounts(KEY)
    assert "volatile" not in again.options
    assert snapshots.lowers(KEY) == [top, base]


def test_overlay_views(tmp_path: Path) -> None:
    snapshots = overlay(tmp_path)
    chain(snapshots)
    [empty] = snapshots.view(SnapshotKey("a"), None)
    [single] = snapshots.view(SnapshotKey("b"), BASE)
    [several] = snapshots.view(SnapshotKey("c"), TOP)
    assert (empty.type, "ro" in empty.options) == ("bind", True)
    assert (single.type, single.source, "ro" in single.options) == ("bind", snapshots.directory(BASE), True)
    assert several.type == "overlay"
    assert not any(option.startswith("upperdir") for option in several.options)


def test_the_root_looks_like_the_parents_root(tmp_path: Path) -> None:
    snapshots = overlay(tmp_path)
    snapshots.prepare(KEY, None)
    os.chmod(snapshots.directory(KEY), 0o1775)
    snapshots.commit(BASE, KEY)
    snapshots.prepare(KEY, BASE)
    assert stat.S_IMODE(os.stat(snapshots.directory(KEY)).st_mode) == 0o1775


def test_a_crash_leaves_directories_that_go_and_rows_that_go(tmp_path: Path) -> None:
    state = MemoryState()
    snapshots = OverlaySnapshots(str(tmp_path), state)
    chain(snapshots)
    (tmp_path / "77" / "fs").mkdir(parents=True)
    snapshots.prepare(SnapshotKey("lost"), TOP)
    os.rename(os.path.dirname(snapshots.directory(SnapshotKey("lost"))), tmp_path / "elsewhere")
    again = OverlaySnapshots(str(tmp_path), state)
    again.reconcile()
    assert {info.id for info in again.walk()} == {BASE, TOP}
    assert not (tmp_path / "77").exists()
    again.sweep()
    assert list((tmp_path / "removed").iterdir()) == []
    again.prepare(KEY, TOP)
    assert again.directory(KEY) == f"{tmp_path}/78/fs"


@pytest.mark.parametrize("path", ["/a", "/a:b", "/a,b", "/a\\b", "/:,\\"])
def test_escapes(path: str) -> None:
    assert lower_directories(f"{escape(path)}:/b") == [path, "/b"]


def test_a_key_with_a_parent_cannot_get_another(tmp_path: Path) -> None:
    snapshots = overlay(tmp_path)
    chain(snapshots)
    snapshots.prepare(KEY, BASE)
    with pytest.raises(Conflict):
        snapshots.commit(ChainID("other"), KEY, parent=TOP)


def test_plain_copies_everything(tmp_path: Path) -> None:
    snapshots = PlainSnapshots(str(tmp_path), MemoryState())
    snapshots.prepare(KEY, None)
    root = Path(snapshots.directory(KEY))
    (root / "dir").mkdir(mode=0o750)
    (root / "dir" / "file").write_text("data")
    os.chmod(root / "dir" / "file", 0o4711)
    os.link(root / "dir" / "file", root / "hard")
    os.symlink("nowhere", root / "sym")
    os.mkfifo(root / "fifo")
    with open(root / "holes", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    os.utime(root / "dir", ns=(5, 7))
    snapshots.commit(BASE, KEY)
    snapshots.prepare(KEY, BASE)
    copy = Path(snapshots.directory(KEY))
    assert (copy / "dir" / "file").read_text() == "data"
    assert stat.S_IMODE((copy / "dir" / "file").stat().st_mode) == 0o4711
    assert (copy / "hard").samefile(copy / "dir" / "file")
    assert not (copy / "hard").samefile(root / "hard")
    assert os.readlink(copy / "sym") == "nowhere"
    assert stat.S_ISFIFO((copy / "fifo").stat().st_mode)
    assert (copy / "holes").read_bytes() == (root / "holes").read_bytes()
    assert (copy / "dir").stat().st_mtime_ns == 7


def test_unknown_drivers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter):
        choose(str(tmp_path), MemoryState(), "btrfs")
    assert choose(str(tmp_path), MemoryState(), "vfs").driver == "vfs"


def test_what_a_copy_changes_is_shown_as_overlayfs_would(tmp_path: Path) -> None:
    snapshots = PlainSnapshots(str(tmp_path), MemoryState())
    snapshots.prepare(KEY, None)
    root = Path(snapshots.directory(KEY))
    for name in ("kept/same", "kept/gone", "gone/inner", "became/inner", "changed", "grew"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(name)
    with snapshots.change(KEY) as (upper, lowers):
        assert (upper, lowers) == (str(root), [])
    snapshots.commit(BASE, KEY)
    snapshots.prepare(KEY, BASE)
    root = Path(snapshots.directory(KEY))
    (root / "kept/gone").unlink()
    shutil.rmtree(root / "gone")
    shutil.rmtree(root / "became")
    (root / "became").write_text("a file")
    (root / "grew").unlink()
    (root / "grew").mkdir(mode=0o750)
    (root / "grew/in").write_text("")
    (root / "changed").write_text("other")
    (root / "kept/new").write_text("new")
    (root / "kept/link").symlink_to("new")
    with snapshots.change(KEY) as (upper, lowers):
        told = [(change.kind, change.path) for change in diff.changes(upper, lowers)]
        entries = b"".join(diff.upper_layer(upper, lowers))
        assert not Path(upper, "kept/same").exists()
        assert stat.S_IMODE(Path(upper, "grew").stat().st_mode) == 0o750
        assert Path(upper, "kept").stat().st_mtime_ns == (root / "kept").stat().st_mtime_ns
    assert told == [
        ("C", "/became"),
        ("C", "/changed"),
        ("D", "/gone"),
        ("C", "/grew"),
        ("A", "/grew/in"),
        ("C", "/kept"),
        ("D", "/kept/gone"),
        ("A", "/kept/link"),
        ("A", "/kept/new"),
    ]
    with tarfile.open(fileobj=io.BytesIO(entries), mode="r:") as layer:
        names = set(layer.getnames())
    wanted = {"became", "changed", ".wh.gone", "grew", "grew/in"}
    assert names == wanted | {"kept", "kept/.wh.gone", "kept/link", "kept/new"}
    assert not list(tmp_path.glob("change-*"))


def test_a_root_stays_with_the_driver_of_its_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = MemoryState()
    choose(str(tmp_path), state, "vfs").prepare(KEY, None)
    assert choose(str(tmp_path), state).driver == "vfs"
    with pytest.raises(SkiffError, match="holds snapshots of the storage driver vfs"):
        choose(str(tmp_path), state, "overlay2")
    stacked = MemoryState()
    OverlaySnapshots(str(tmp_path / "o"), stacked).prepare(KEY, None)
    monkeypatch.setattr(plain, "overlay_is_here", lambda: False)
    with pytest.raises(SkiffError, match="this kernel has no overlayfs: modprobe overlay"):
        choose(str(tmp_path / "o"), stacked)


def test_where_overlayfs_does_not_work_copies_are_made_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plain, "overlay_works", lambda root: False)
    assert choose(str(tmp_path), MemoryState()).driver == "vfs"
    assert "every container copies its image" in caplog.text
    with pytest.raises(SkiffError, match="overlayfs does not work"):
        choose(str(tmp_path), MemoryState(), "overlay2")


def test_what_a_killed_engine_showed_of_a_change_goes(tmp_path: Path) -> None:
    (tmp_path / "change-abc" / "fs").mkdir(parents=True)
    PlainSnapshots(str(tmp_path), MemoryState())
    assert not list(tmp_path.glob("change-*"))


def mounted(script: str, options: tuple[str, ...], target: Path) -> str:
    """What script says in a mount namespace where the overlay is mounted on target."""
    target.mkdir(exist_ok=True)
    mount = ["unshare", "-m", "sh", "-ec", f'mount -t overlay overlay -o "$1" "$2"; cd "$2"; {script}', "sh"]
    done = subprocess.run([*mount, ",".join(options), target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.root
def test_the_kernel_mounts_what_overlay_says(tmp_path: Path) -> None:
    root = tmp_path / "odd:na,me"
    snapshots = choose(str(root), MemoryState())
    assert snapshots.driver == "overlay2"
    assert not list(root.glob("probe*"))
    chain(snapshots)
    [mount] = snapshots.prepare(KEY, TOP, volatile=True)
    assert mounted("rm base; echo x > new; ls", mount.options, tmp_path / "m").split() == ["new", "top"]
    for volatile in (True, False):
        [mount] = snapshots.mounts(KEY, volatile=volatile)
        assert mounted("ls", mount.options, tmp_path / "m").split() == ["new", "top"]


@pytest.mark.root
def test_directories_of_the_host_as_a_lower_layer(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "etc" / "secrets").mkdir(parents=True)
    (host / "etc" / "secrets" / "key").touch()
    (host / "etc" / "passwd").touch()
    (host / "etc" / "shadow").touch()
    (host / "run").mkdir()
    (host / "run" / "socket").touch()
    (host / "var-run").symlink_to("run")
    snapshots = overlay(tmp_path)
    name = ChainID("host")
    hidden = ["/etc/secrets/key", "/etc/secrets", "/etc/shadow", "/absent", "/var-run/socket"]
    snapshots.register_external(name, [str(host)], hidden=hidden)
    [mount] = snapshots.prepare(KEY, name)
    listing = mounted("touch new; find . | sort", mount.options, tmp_path / "m")
    seen = [".", "./etc", "./etc/passwd", "./etc/secrets", "./new", "./run", "./var-run"]
    assert listing.split() == seen
    assert not (host / "new").exists()
