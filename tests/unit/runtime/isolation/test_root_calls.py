"""What a root is made of, as calls."""

import os

import pytest
from tests.unit.runtime.isolation.performed import BASE, NUMBERS, calls, names

from skiff.linux import mounts
from skiff.linux.calls import Program
from skiff.linux.mounts import parse
from skiff.oci.runtime import IdMapping, Mount
from skiff.runtime.isolation import root_calls
from skiff.runtime.isolation.entering import Unplanned
from skiff.runtime.isolation.root_calls import ROOT
from skiff.runtime.isolation.root_plan import Bind, Filesystem, Link, Mask, Node, ReadOnly, Step

PROC = Filesystem("proc", "proc", "/proc", parse(("nosuid",)))
DEV = Filesystem("tmpfs", "tmpfs", "/dev", parse(("mode=755",)))
SYS = Filesystem("sysfs", "sysfs", "/sys", parse(("ro",)))


@pytest.fixture
def program() -> Program:
    return Program(NUMBERS, BASE)


ROOTFS = (Mount("/", "overlay", "overlay", ("lowerdir=/a",)),)


@pytest.fixture(autouse=True)
def _new_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TAKES_LAYERS_ONE_BY_ONE", True)


def furnished(*steps: Step) -> list[tuple[object, ...]]:
    """What is added to a bare root."""
    bare, program = Program(NUMBERS, BASE), Program(NUMBERS, BASE)
    root_calls.open_all(bare, ROOTFS, (), "/bundle")
    root_calls.open_all(program, ROOTFS, steps, "/bundle")
    root_calls.furnish(program, steps)
    start = calls(bare)[:-2]
    made = calls(program)
    assert made[: len(start)] == start
    return [call for call in made[len(start) :] if call not in calls(bare)[-2:]]


def opened(made: list[tuple[object, ...]]) -> list[object]:
    """The paths inside the root."""
    return [call[2] for call in made if call[0] == "openat2"]


def test_an_overlay_is_configured_layer_by_layer(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TAKES_LAYERS_ONE_BY_ONE", True)
    options = ("lowerdir=/a:/b", "upperdir=/u", "workdir=/w", "volatile")
    root_calls.open_all(program, (Mount("/", "overlay", "overlay", options),), (), "/bundle")
    told = [call[2:] for call in calls(program) if call[0] == "fsconfig"]
    set_flag, set_string, create = (
        mounts.FSCONFIG_SET_FLAG,
        mounts.FSCONFIG_SET_STRING,
        mounts.FSCONFIG_CMD_CREATE,
    )
    assert told == [
        (set_string, b"source", b"overlay"),
        (set_string, b"lowerdir+", b"/a"),
        (set_string, b"lowerdir+", b"/b"),
        (set_string, b"upperdir", b"/u"),
        (set_string, b"workdir", b"/w"),
        (set_flag, b"volatile"),
        (create,),
    ]
    assert calls(program)[-1] == ("move_mount", ROOT, b"", -100, b"/", mounts.MOVE_MOUNT_F_EMPTY_PATH)


@pytest.mark.parametrize(
    "rootfs", [(), (Mount("/", "bind", "/x", ("rbind",)),), (Mount("/", "overlay", "overlay", ()),) * 2]
)
def test_other_roots_are_for_an_interpreter(program: Program, rootfs: tuple[Mount, ...]) -> None:
    with pytest.raises(Unplanned):
        root_calls.open_all(program, rootfs, (), "/bundle")


def test_an_older_kernel_mounts_it_in_one_line(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TAKES_LAYERS_ONE_BY_ONE", False)
    options = ("lowerdir=/l/a,1:/l/b", "upperdir=/u", "workdir=/w", "nosuid")
    root_calls.open_all(program, (Mount("/", "overlay", "overlay", options),), (), "/bundle")
    data = b"lowerdir=a\\,1:b,upperdir=/u,workdir=/w"
    assert calls(program)[:3] == [
        ("mount", 0, b"/", 0, mounts.MS_SLAVE | mounts.MS_REC),
        ("chdir", b"/l"),
        ("mount", b"overlay", b"/bundle", b"overlay", mounts.MS_NOSUID, data),
    ]
    many = "lowerdir=" + ":".join(f"/{number}" for number in range(2000))
    with pytest.raises(Unplanned):
        root_calls.open_all(
            Program(NUMBERS, BASE), (Mount("/", "overlay", "overlay", (many,)),), (), "/bundle"
        )


def test_a_filesystem_is_mounted_where_we_stand() -> None:
    made = furnished(PROC)
    assert [call[0] for call in made] == ["openat2", "mkdirat", "openat2", "fchdir", "mount"]
    assert made[-1] == ("mount", b"proc", b".", b"proc", mounts.MS_NOSUID)


def test_places_are_made_once_and_opened_without_links() -> None:
    made = furnished(DEV, Filesystem("devpts", "devpts", "/dev/pts", parse(())))
    assert [call[2] for call in made if call[0] == "mkdirat"] == [b"dev", b"pts"]
    assert opened(made) == [b"/", b"/dev", b"/dev", b"/dev/pts"]


def test_a_new_tmpfs_hides_what_was_made_below() -> None:
    over = Filesystem("tmpfs", "tmpfs", "/a", parse(()))
    below = Filesystem("tmpfs", "tmpfs", "/a/b", parse(()))
    made = [call[2] for call in furnished(over, below, over, below) if call[0] == "mkdirat"]
    assert made == [b"a", b"b", b"b"]


def test_sysfs_has_its_places() -> None:
    groups = Filesystem("cgroup2", "cgroup", "/sys/fs/cgroup", parse(()))
    assert [call[2] for call in furnished(SYS, groups) if call[0] == "mkdirat"] == [b"sys"]


def test_a_bind_has_a_place_of_its_kind() -> None:
    made = furnished(Bind("/host", "/a/b", parse(("rbind", "ro", "rprivate"))))
    kinds = [call[0] for call in made]
    assert kinds[:2] == ["open_tree", "dup3"]
    assert kinds.count("move_mount") == 2  # a directory's place, or a file's
    assert ("mknodat", 0, b"b", 0o100755) in made
    private = [call for call in made if call[0] == "mount_setattr"]
    assert len(private) == 3  # a slave of the host's, read-only, private


def test_binds_are_opened_while_the_host_s_mounts_are_its_peers(program: Program) -> None:
    steps = [Bind("/host", "/a", parse(("rbind", "rshared")))]
    root_calls.open_all(program, ROOTFS, steps, "/bundle")
    assert names(program)[-4:] == ["open_tree", "dup3", "mount", "move_mount"]


def test_nodes_and_links() -> None:
    made = furnished(
        DEV,
        Node("/dev/null", 0o20666, 1, 3, 0, 0),
        Node("/dev/x", 0o20600, 259, 300, 7, 8),
        Link("/dev/fd", "x"),
    )
    assert ("mknodat", 0, b"null", 0o20666, os.makedev(1, 3)) in made
    assert ("mknodat", 0, b"x", 0o20600, os.makedev(259, 300)) in made
    assert ("fchownat", 0, b"x", 7, 8, 0x100) in made
    assert ("symlinkat", b"x", 0, b"fd") in made


def test_what_is_hidden_and_what_is_read_only() -> None:
    made = [call[0] for call in furnished(Mask("/proc/kcore"))]
    assert made == ["openat2", "openat2", "fchdir", "mount", "close", "open_tree", "move_mount"]
    made = [call[0] for call in furnished(ReadOnly("/proc/sys"))]
    assert made == ["openat2", "open_tree", "mount_setattr", "move_mount"]
    assert [call[0] for call in furnished(ReadOnly("/x", whole=False))] == ["openat2", "mount_setattr"]


@pytest.mark.parametrize(
    "steps",
    [
        (Filesystem("tmpfs", "tmpfs", "/proc", parse(())),),
        (Filesystem("proc", "proc", "/elsewhere", parse(())),),
        (Filesystem("tmpfs", "tmpfs", "/proc/acpi", parse(())),),
        (Filesystem("tmpfs", "tmpfs", "/", parse(())),),
        (Filesystem("tmpfs", "tmpfs", "/a", parse(("tmpcopyup",))),),
        (Filesystem("overlay", "overlay", "/a", parse(("lowerdir=/x",))),),
        (Filesystem("tmpfs", "tmpfs", "/a", parse(("rro",))),),
        (Bind("/", "/host", parse(("rbind",))), Bind("/x", "/host/proc/sys", parse(("rbind",)))),
        (Bind("/x", "/proc/../proc/1", parse(("rbind",))),),
        (Bind("/x", "/sys/../proc", parse(("rbind",))),),
        (Bind("/proc", "/proc", parse(("rbind",))),),
        (Bind("/proc/7/root/x", "/x", parse(("rbind",))),),
        (Bind("/x", "/x", parse(("rbind",)), ((IdMapping(0, 1, 1),), (IdMapping(0, 1, 1),))),),
        (Bind("/x\0", "/x", parse(("rbind",))),),
    ],
)
def test_what_an_interpreter_has_to_do(steps: tuple[Step, ...]) -> None:
    with pytest.raises(Unplanned):
        furnished(*steps)


def test_a_working_directory_is_made_if_it_is_missing(program: Program) -> None:
    root_calls.make_directory(program, "/a/../b/c")
    assert names(program) == ["openat2", "close", *["openat2", "mkdirat"] * 2]
    assert opened(calls(program)) == [b"/b/c", b"/", b"/b"]
    nothing = Program(NUMBERS, BASE)
    root_calls.make_directory(nothing, "/")
    assert not names(nothing)


def test_the_root_is_entered(program: Program) -> None:
    root_calls.enter_root(program, readonly=True, propagation="rslave")
    assert names(program) == ["fchdir", "pivot_root", "umount2", "chdir", "mount_setattr", "mount_setattr"]
    with pytest.raises(Unplanned):
        root_calls.enter_root(program, readonly=False, propagation="nonsense")
