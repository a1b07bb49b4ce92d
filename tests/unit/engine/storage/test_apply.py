import gzip
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.engine.storage.archives import CHARACTER, DIRECTORY, FIFO, LINK, SYMLINK, entry, tar

from skiff.engine.storage.apply import Layers
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.plain import PlainSnapshots
from skiff.engine.storage.snapshots import Snapshotter
from skiff.engine.storage.state import MemoryState
from skiff.errors import DigestMismatch, HostileArchive
from skiff.oci.digest import ChainID, DiffID, of

pytestmark = pytest.mark.root


class Image:
    """Layers on a snapshotter of its own."""

    def __init__(self, root: Path, snapshots: Snapshotter) -> None:
        self.root = root
        self.snapshots = snapshots
        self.layers = Layers(snapshots, max_bytes=1 << 24)
        self.names: list[ChainID] = []

    def blob(self, data: bytes) -> Path:
        path = self.root / f"blob{len(list(self.root.glob('blob*')))}"
        path.write_bytes(data)
        return path

    def add(self, data: bytes, expected: DiffID | None = None) -> Path:
        with open(self.blob(gzip.compress(data, 1)), "rb") as blob:
            draft = self.layers.extract(blob)
        if expected is not None:
            self.layers.verify(draft, expected)
        assert draft.applied.diff_id == DiffID(of(data))
        name = ChainID(f"sha256:{len(self.names):064}")
        self.layers.commit(draft, name, self.names[-1] if self.names else None)
        self.names.append(name)
        return Path(self.snapshots.directory(name))

    def refused(self, data: bytes) -> None:
        before = {info.id for info in self.snapshots.walk()}
        with pytest.raises(HostileArchive):
            self.add(data)
        assert {info.id for info in self.snapshots.walk()} == before
        assert not list(Path("/").glob("escaped*"))


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Image]:
    image = Image(tmp_path, OverlaySnapshots(str(tmp_path / "s"), MemoryState()))
    yield image
    image.layers.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Image]:
    image = Image(tmp_path, PlainSnapshots(str(tmp_path / "s"), MemoryState()))
    yield image
    image.layers.close()


@pytest.fixture(params=["overlay", "plain"])
def image(request: pytest.FixtureRequest) -> Image:
    made: Image = request.getfixturevalue(request.param)
    return made


def test_everything_a_file_can_have(image: Image) -> None:
    data = tar(
        entry("./", DIRECTORY, mode=0o700),
        entry("dir/", DIRECTORY, mode=0o1777, uid=1, gid=2),
        entry("dir/file", data=b"hello", mode=0o6755, uid=3, gid=4, pax_headers={"SCHILY.xattr.user.a": "b"}),
        entry("hard", LINK, linkname="./dir/file"),
        entry("sym", SYMLINK, linkname="/etc/passwd", uid=5),
        entry("fifo", FIFO, mode=0o622),
        entry("null", CHARACTER, devmajor=1, devminor=3, mode=0o666),
        entry("\udcff\udcfe", data=b"x"),
    )
    root = image.add(data)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    status = (root / "dir").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1777, 1, 2)
    assert status.st_mtime == 1_000_000_000
    file = root / "dir" / "file"
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_nlink) == (0o6755, 3, 2)
    assert file.read_bytes() == b"hello"
    assert os.getxattr(file, "user.a") == b"b"
    assert os.readlink(root / "sym") == "/etc/passwd"
    assert (root / "sym").lstat().st_uid == 5
    assert stat.S_ISFIFO((root / "fifo").stat().st_mode)
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert b"\xff\xfe" in os.listdir(os.fsencode(root))


def test_nothing_is_inherited_from_directories_that_pass_on_their_group(image: Image) -> None:
    """inode(7): with S_ISGID on its parent a new file has the parent's group, and a directory the bit too."""
    image.add(
        tar(
            entry("mail/", DIRECTORY, mode=0o2775, gid=8),
            entry("mail/root", data=b"x"),
            entry("mail/plain/", DIRECTORY),
            entry("mail/sym", SYMLINK, linkname="root"),
            entry("mail/fifo", FIFO),
            entry("ours/", DIRECTORY, mode=0o2755),
            entry("twice/", DIRECTORY, mode=0o2755),
            entry("twice/", DIRECTORY, mode=0o755),
            entry("replaced/", DIRECTORY, mode=0o2755),
            entry("replaced", data=b"x"),
        )
    )
    above = [
        entry("mail/later", data=b"x"),
        entry("mail/inner/", DIRECTORY),
        entry("mail/inner/f", data=b"x"),
    ]
    image.add(tar(*above))
    root = image.add(tar(entry("mail/", DIRECTORY, mode=0o2775, gid=8), *above))
    below = [Path(image.snapshots.directory(name)) for name in image.names]
    for place in below:
        for path in place.rglob("*"):
            expected = (0o2000, 8) if path.name == "mail" else (0o2000 if path.name == "ours" else 0, 0)
            assert (path.lstat().st_mode & 0o7000, path.lstat().st_gid) == expected, path
    assert stat.S_IMODE((root / "mail").stat().st_mode) == 0o2775
    assert (below[0] / "replaced").read_bytes() == b"x"


def test_implied_directories_look_like_the_parents(image: Image) -> None:
    image.add(
        tar(
            entry("./", DIRECTORY, mode=0o711),
            entry("a/", DIRECTORY, mode=0o700, uid=9),
            entry("a/b/", DIRECTORY, gid=8),
        )
    )
    image.add(tar(entry("unrelated")))
    root = image.add(tar(entry("a/b/c/file")))
    assert stat.S_IMODE(root.stat().st_mode) == 0o711
    assert (stat.S_IMODE((root / "a").stat().st_mode), (root / "a").stat().st_uid) == (0o700, 9)
    assert (root / "a/b").stat().st_gid == 8
    assert stat.S_IMODE((root / "a/b/c").stat().st_mode) == 0o755


def test_a_hard_link_into_a_lower_layer(image: Image) -> None:
    image.add(tar(entry("file", data=b"below", mode=0o640)))
    root = image.add(tar(entry("link", LINK, linkname="file")))
    assert (root / "link").read_bytes() == b"below"


def test_names_through_a_symbolic_link_of_a_lower_layer(image: Image) -> None:
    image.add(tar(entry("usr/lib/", DIRECTORY), entry("lib", SYMLINK, linkname="usr/lib")))
    root = image.add(tar(entry("lib/new", data=b"x")))
    assert (root / "usr/lib/new").read_bytes() == b"x"
    assert not (root / "lib").is_dir() or (root / "lib").is_symlink()


def test_names_through_a_symbolic_link_stay_inside(image: Image, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    links = (str(outside), "../" * 20 + str(outside), "/etc", "/")
    for number, target in enumerate(links):
        data = tar(entry(f"l{number}", SYMLINK, linkname=target), entry(f"l{number}/escaped-file", data=b"x"))
        if target == "/":
            root = image.add(data)
            assert (root / "escaped-file").exists()
        else:
            image.refused(data)
    assert list(outside.iterdir()) == []
    assert not os.path.exists("/escaped-file")
    assert not os.path.exists("/etc/escaped-file")


def test_whiteouts_on_overlay(overlay: Image) -> None:
    overlay.add(tar(entry("a/b"), entry("d/e"), entry("f/g")))
    root = overlay.add(tar(entry("a/.wh.b"), entry("d/", DIRECTORY), entry("d/.wh..wh..opq"), entry(".wh.f")))
    for hidden in ("a/b", "f"):
        status = (root / hidden).lstat()
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == 0
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"
    assert not list(root.rglob(".wh.*"))


def test_a_directory_in_place_of_a_whiteout_is_opaque(overlay: Image) -> None:
    overlay.add(tar(entry("a/old")))
    for data in (
        tar(entry(".wh.a"), entry("a/", DIRECTORY), entry("a/new")),
        tar(entry(".wh.a"), entry("a/new")),
        tar(entry("a/", DIRECTORY), entry("a/new"), entry(".wh.a")),
    ):
        root = overlay.add(data)
        assert os.getxattr(root / "a", "trusted.overlay.opaque") == b"y"
        assert (root / "a/new").exists()


def test_whiteouts_on_copies(plain: Image) -> None:
    plain.add(tar(entry("a/b"), entry("a/c"), entry("d/e"), entry("f/g"), entry("h/i")))
    root = plain.add(
        tar(
            entry("a/.wh.b"),
            entry("d/new"),
            entry("d/.wh..wh..opq"),
            entry(".wh.f"),
            entry(".wh.h"),
            entry("h/new"),
            entry(".wh.absent"),
        )
    )
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert names == ["a", "a/c", "d", "d/new", "h", "h/new"]


def test_later_entries_replace_earlier_ones(image: Image) -> None:
    root = image.add(
        tar(
            entry("a", data=b"1"),
            entry("a", data=b"2"),
            entry("dir/file"),
            entry("dir", data=b"now a file"),
            entry("b"),
            entry("b/", DIRECTORY),
            entry("b/c"),
            entry("sym", SYMLINK, linkname="a"),
            entry("sym", data=b"mine"),
        )
    )
    assert (root / "a").read_bytes() == b"2"
    assert (root / "dir").read_bytes() == b"now a file"
    assert (root / "b/c").exists()
    assert (root / "sym").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "data",
    [
        tar(entry("../escaped")),
        tar(entry("a/../../escaped")),
        tar(entry("link", LINK, linkname="../../etc/passwd")),
        tar(entry("link", LINK, linkname="/etc/hostname")),
        tar(entry("s", SYMLINK, linkname="/etc"), entry("link", LINK, linkname="s/hostname")),
        tar(entry("link", LINK, linkname="")),
        tar(entry(".wh...")),
        tar(entry(".wh..")),
        tar(entry("a/.wh.")),
        tar(entry("a", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"})),
        tar(entry("a/", DIRECTORY, pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"})),
        tar(entry("a", CHARACTER, devmajor=0, devminor=0)),
        tar(entry("./", data=b"x")),
        tar(entry("a", SYMLINK, linkname="")),
        tar(entry("a"), entry("a/b")),
        tar(entry("loop", SYMLINK, linkname="loop"), entry("loop/x")),
        tar(entry("n" * 300)),
        tar(entry("big", data=bytes((1 << 24) + 1))),
        tar(entry("a", data=b"x" * 10_000))[:5000],
        b"no archive at all" * 100,
    ],
)
def test_hostile_archives(image: Image, data: bytes) -> None:
    image.refused(data)


def test_a_damaged_stream(image: Image) -> None:
    packed = gzip.compress(tar(entry("a", data=os.urandom(200_000))))
    for data in (packed[:-100], packed[:1000], packed[:5000] + b"\xff" * 100 + packed[5100:]):
        with open(image.blob(data), "rb") as blob, pytest.raises(HostileArchive):
            image.layers.extract(blob)
    assert list(image.snapshots.walk()) == []


def test_another_layer_than_expected(image: Image) -> None:
    with pytest.raises(DigestMismatch):
        image.add(tar(entry("a")), DiffID("sha256:" + "0" * 64))
    assert list(image.snapshots.walk()) == []


def test_a_layer_that_another_pull_committed_meanwhile(image: Image) -> None:
    first = image.add(tar(entry("a")))
    with open(image.blob(tar(entry("a"))), "rb") as blob:
        draft = image.layers.extract(blob)
    image.layers.commit(draft, image.names[0], None)
    assert Path(image.snapshots.directory(image.names[0])) == first
    assert len(list(image.snapshots.walk())) == 1


def test_large_layers_go_through_threads(image: Image) -> None:
    files = [entry(f"f{n}", data=os.urandom(10_000)) for n in range(30)]
    root = image.add(tar(*files))
    assert all((root / info.name).read_bytes() == data for info, data in files)


def test_whoever_holds_the_blob_sees_how_far_it_is(image: Image) -> None:
    path = image.blob(tar(entry("f", data=os.urandom(1_000_000))))
    with open(path, "rb") as blob:
        draft = image.layers.extract(blob)
        assert blob.tell() == path.stat().st_size
        image.layers.discard(draft)


def test_drafts_of_a_crashed_engine_go(image: Image) -> None:
    with open(image.blob(tar(entry("a"))), "rb") as blob:
        image.layers.extract(blob)
    image.layers.recover()
    assert list(image.snapshots.walk()) == []


def test_the_helper_is_replaced_when_it_is_gone(image: Image) -> None:
    image.add(tar(entry("a")))
    helper = image.layers._extractor._helper
    assert helper is not None
    helper.process.kill()
    image.add(tar(entry("b")))


def test_many_layers_fit_the_merged_mount(overlay: Image) -> None:
    overlay.add(tar(entry("file", data=b"below")))
    for number in range(120):
        overlay.add(tar(entry(f"f{number}")))
    root = overlay.add(tar(entry("link", LINK, linkname="file")))
    assert (root / "link").read_bytes() == b"below"


AS_NOBODY = """
import ctypes, json, os, sys
from skiff.engine.storage import extract
good, bad, root = sys.argv[1:]
good, bad = os.open(good, os.O_RDONLY), os.open(bad, os.O_RDONLY)
os.setgid(65534)
os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1)  # or /proc/self would stay root's
for blob, name in ((bad, "bad"), (good, "good")):
    os.mkdir(f"{root}/{name}")
    if os.fork() == 0:
        job = {"whiteouts": "overlay", "overlay": None, "base": "/", "max_bytes": None}
        print(extract._job(job | {"directory": f"{root}/{name}"}, blob).get("error"), flush=True)
        os._exit(0)
    os.wait()
print(sorted(os.listdir(f"{root}/good/a")), os.getxattr(f"{root}/good/a", "user.overlay.opaque"))
"""


def test_extraction_without_privileges(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    whiteouts = [entry("a/.wh.gone"), entry("a/.wh..wh..opq")]
    good.write_bytes(
        tar(entry("a/", DIRECTORY, uid=5), entry("a/f", data=b"x", uid=1, mode=0o4755), *whiteouts)
    )
    bad.write_bytes(tar(entry("a/"), entry("../escaped")))
    with tempfile.TemporaryDirectory() as root:  # pytest's own directories are closed to others
        os.chown(root, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, good, bad, root],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.splitlines() == ["hostile", "None", "['f', 'gone'] b'y'"], done.stderr
