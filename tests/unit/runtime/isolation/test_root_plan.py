"""What the plan of a root contains, and what it refuses."""

import pytest

from skiff.linux import mounts
from skiff.linux.cgroups import Layout
from skiff.oci.runtime import Device, IdMapping, Linux, Mount, Spec
from skiff.runtime.isolation.handshake import StepFailed
from skiff.runtime.isolation.root_plan import Bind, Filesystem, Link, Mask, Node, ReadOnly, Step, plan

V1 = Layout(
    {"cpu": "/cg/cpu,cpuacct", "cpuacct": "/cg/cpu,cpuacct", "name=systemd": "/cg/systemd"}, "", frozenset()
)
HYBRID = Layout(V1.v1, "/cg/unified", frozenset())
V2 = Layout({}, "/cg", frozenset({"pids"}))
CGROUP = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid"))
DEV = Mount("/dev", "tmpfs", "tmpfs", ("mode=755",))


def steps(
    *wanted: Mount, here: Layout = V1, own: bool = True, user: bool = False, **linux: object
) -> list[Step]:
    spec = Spec(mounts=wanted, linux=Linux(**linux))  # type: ignore[arg-type]
    return plan(spec, here, "/box", new_user=user, new_cgroup=own)


def test_mounts_stay_in_order_and_masks_come_last() -> None:
    found = steps(
        Mount("/proc", "proc", "proc"), Mount("/data", "bind", "/src", ("ro",)),
        masked_paths=("/proc/kcore",), readonly_paths=("/proc/sys",),
    )  # fmt: skip
    assert [type(step) for step in found if not isinstance(step, Link)] == [Filesystem, Bind, ReadOnly, Mask]


def test_default_nodes_belong_to_a_dev_of_its_own() -> None:
    assert not [step for step in steps() if isinstance(step, Node)]
    nodes = {step.path: step for step in steps(DEV) if isinstance(step, Node)}
    assert set(nodes) == {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
    assert (nodes["/dev/null"].major, nodes["/dev/null"].minor, nodes["/dev/null"].mode & 0o777) == (
        1,
        3,
        0o666,
    )


def test_in_a_user_namespace_nodes_are_bound() -> None:
    found = steps(DEV, user=True)
    assert not [step for step in found if isinstance(step, Node)]
    assert {step.source for step in found if isinstance(step, Bind)} >= {"/dev/null", "/dev/tty"}


def test_given_devices_replace_defaults() -> None:
    device = Device(path="/dev/null", type="c", major=9, minor=8, file_mode=0o600, uid=5)
    (node,) = [s for s in steps(DEV, devices=(device,)) if isinstance(s, Node) and s.path == "/dev/null"]
    assert (node.major, node.minor, node.mode & 0o777, node.uid) == (9, 8, 0o600, 5)


def test_control_groups_of_version_1() -> None:
    found = steps(CGROUP)
    mounted = {step.target: step for step in found if isinstance(step, Filesystem)}
    assert mounted["/sys/fs/cgroup"].kind == "tmpfs"
    assert not mounted["/sys/fs/cgroup"].options.flags & mounts.MS_RDONLY  # links are still to be made in it
    assert mounted["/sys/fs/cgroup/cpu,cpuacct"].options.data == ("cpu", "cpuacct")
    assert mounted["/sys/fs/cgroup/systemd"].options.data == ("none", "name=systemd")
    assert Link("/sys/fs/cgroup/cpu", "cpu,cpuacct") in found
    assert ReadOnly("/sys/fs/cgroup", whole=False) in found


def test_without_a_cgroup_namespace_the_own_group_is_bound() -> None:
    binds = {step.target: step.source for step in steps(CGROUP, own=False) if isinstance(step, Bind)}
    assert binds["/sys/fs/cgroup/systemd"] == "/cg/systemd/box"


def test_control_groups_of_version_2_and_of_both() -> None:
    (only,) = [s for s in steps(CGROUP, here=V2) if isinstance(s, Filesystem)]
    assert (only.kind, only.target) == ("cgroup2", "/sys/fs/cgroup")
    both = [s.target for s in steps(CGROUP, here=HYBRID) if isinstance(s, Filesystem) and s.kind == "cgroup2"]
    assert both == ["/sys/fs/cgroup/unified"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Mount("", "tmpfs", "tmpfs"), "without a destination"),
        (Mount("/t", "tmpfs", "tmpfs", uid_mappings=(IdMapping(0, 1, 1),)), "bind mounts only"),
        (Mount("/b", "bind", "/b", ("idmap",)), "without any id mappings"),
    ],
)
def test_what_cannot_be_meant(wanted: Mount, words: str) -> None:
    with pytest.raises(StepFailed, match=words):
        steps(wanted)


def test_an_unknown_kind_of_device() -> None:
    with pytest.raises(StepFailed, match="unknown device type"):
        steps(devices=(Device(path="/dev/x", type="x"),))
