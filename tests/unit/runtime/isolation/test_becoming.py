"""What an init does, as calls."""

from collections.abc import Callable

import pytest
from msgspec import structs
from tests.unit.runtime.isolation.performed import BASE, NUMBERS, calls, names

from skiff.linux import cgroups, mounts, namespaces
from skiff.linux.calls import Program
from skiff.linux.cgroups import Layout
from skiff.oci.runtime import Hook, Hooks, Linux, Mount, Namespace, Process, Spec
from skiff.runtime.isolation import becoming
from skiff.runtime.isolation.becoming import Init
from skiff.runtime.isolation.entering import Unplanned

V2 = Layout({}, "/sys/fs/cgroup", frozenset({"memory"}))
HYBRID = Layout({"memory": "/cg/memory", "cpu": "/cg/cpu"}, "/cg/unified", frozenset())
ROOTFS = (Mount("/", "overlay", "overlay", ("lowerdir=/a",)),)
SPEC = Spec(
    oci_version="1.2.0",
    process=Process(args=("/bin/true",)),
    hostname="box",
    linux=Linux(namespaces=tuple(Namespace(kind) for kind in ("pid", "mount", "uts", "cgroup"))),
)


@pytest.fixture(autouse=True)
def _new_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TAKES_LAYERS_ONE_BY_ONE", True)


def became(spec: Spec, here: Layout = V2) -> tuple[Program, Init]:
    program = Program(NUMBERS, BASE)
    group = cgroups.existing(here, "/skiff/x")
    return program, becoming.become(program, spec, group, rootfs=ROOTFS, at="/bundle", filter=None, have=0)


def test_the_order() -> None:
    program, _ = became(SPEC)
    order = [
        "close",
        "setsid",
        "unshare",
        "fsopen",
        "sethostname",
        "pivot_root",
        "dup3",
        "sendto",
        "recvfrom",
    ]
    order += ["exit_group", "capset", "execve"]
    made = [name for name in names(program) if name in {*order} - {"dup3", "close"}]
    assert made == [name for name in order if name not in ("dup3", "close")]
    assert names(program)[0] == "close"


def test_its_namespaces() -> None:
    program, init = became(SPEC)
    apart = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWCGROUP
    assert init.cloned == namespaces.CLONE_NEWPID
    assert init.apart == apart | namespaces.CLONE_NEWPID
    assert ("unshare", apart) in calls(program)


def test_namespaces_to_join_are_opened_by_itself() -> None:
    joining = SPEC.linux and structs.replace(
        SPEC.linux, namespaces=(*SPEC.linux.namespaces, Namespace("network", "/run/net"))
    )
    program, init = became(structs.replace(SPEC, linux=joining))
    assert ("openat", -100, b"/run/net", 0o2000000) in calls(program)
    assert ("setns", 0, namespaces.CLONE_NEWNET) in calls(program)
    assert init.apart & namespaces.CLONE_NEWNET
    assert "ioctl" not in names(program)


def test_a_new_network_has_its_loopback() -> None:
    new = SPEC.linux and structs.replace(
        SPEC.linux, namespaces=(*SPEC.linux.namespaces, Namespace("network"))
    )
    program, _ = became(structs.replace(SPEC, linux=new))
    assert names(program)[names(program).index("unshare") :][:3] == ["unshare", "socket", "ioctl"]


def test_it_joins_groups_of_version_1_before_it_unshares_them() -> None:
    program, _ = became(SPEC, HYBRID)
    made = calls(program)
    opened = [call[2] for call in made if call[0] == "openat"]
    assert opened == [b"/cg/memory/skiff/x/tasks", b"/cg/cpu/skiff/x/tasks"]
    assert names(program).index("write") < names(program).index("unshare")


def test_it_ends_at_the_gate_unless_that_was_replaced() -> None:
    program, init = became(SPEC)
    assert calls(program)[init.gate.at] == ("exit_group", 1)
    assert [names(program)[call.at] for call in init.execves] == ["execve"]


def test_descriptors_have_their_places() -> None:
    program, _ = became(SPEC)
    assert set(program.image().places) == {"ours", "sync", "in", "out", "err"}


def _process(**changes: object) -> Callable[[Spec], Spec]:
    return lambda spec: structs.replace(spec, process=structs.replace(spec.process, **changes))  # type: ignore[type-var]


def _namespaces(*kinds: Namespace) -> Callable[[Spec], Spec]:
    return lambda spec: structs.replace(spec, linux=Linux(namespaces=kinds))


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: structs.replace(spec, process=None),
        lambda spec: structs.replace(spec, linux=None),
        lambda spec: structs.replace(spec, hooks=Hooks(prestart=(Hook("/x"),))),
        lambda spec: structs.replace(spec, hostname="a\0b"),
        _process(terminal=True),
        _process(cwd="relative"),
        _process(oom_score_adj=1),
        _namespaces(Namespace("mount"), Namespace("uts")),
        _namespaces(Namespace("mount"), Namespace("uts"), Namespace("pid", "/proc/1/ns/pid")),
        _namespaces(Namespace("pid"), Namespace("uts")),
        _namespaces(Namespace("pid"), Namespace("mount")),
        _namespaces(Namespace("pid"), Namespace("mount"), Namespace("uts"), Namespace("user")),
        _namespaces(Namespace("pid"), Namespace("mount"), Namespace("uts"), Namespace("time")),
        _namespaces(Namespace("pid"), Namespace("mount"), Namespace("uts"), Namespace("uts")),
    ],
)
def test_what_an_interpreter_has_to_do(change: Callable[[Spec], Spec]) -> None:
    with pytest.raises(Unplanned):
        became(change(SPEC))
