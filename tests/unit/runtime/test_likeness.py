"""The program of a container like another one is, to the byte, what planning would have made."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from tests.unit.runtime.isolation.performed import BASE, NUMBERS

from skiff.linux import cgroups, mounts
from skiff.linux.calls import Image, Program
from skiff.linux.cgroups import Layout
from skiff.oci.runtime import Linux, Mount, Namespace, Process, Root, Spec
from skiff.runtime import likeness
from skiff.runtime.isolation import becoming
from skiff.runtime.likeness import Likenesses
from skiff.runtime.protocol import Create, encode

LAYOUT = Layout({"memory": "/cg/memory", "cpu": "/cg/cpu"}, "/cg/unified", frozenset())
NAMESPACES = ("pid", "mount", "uts", "ipc", "cgroup")


@pytest.fixture(autouse=True)
def _new_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TAKES_LAYERS_ONE_BY_ONE", True)


class Container:
    """As the engine makes one. below: the numbers of its image's layers."""

    def __init__(
        self, seed: str, number: int, *args: str, below: tuple[int, ...] = (7, 8), env: str = ""
    ) -> None:
        self.id = hashlib.sha256(seed.encode()).hexdigest()
        snapshots = "/var/lib/skiff/snapshots"
        options = [f"lowerdir={':'.join(f'{snapshots}/{one}/fs' for one in below)}"]
        options += [f"upperdir={snapshots}/{number}/fs", f"workdir={snapshots}/{number}/work"]
        self.wish = Create(
            id=self.id,
            bundle=f"/run/skiff/tasks/{self.id}",
            rootfs=(Mount("/", "overlay", "overlay", tuple(options)),),
        )
        held = f"/var/lib/skiff/containers/{self.id}"
        self.spec = Spec(
            oci_version="1.2.0",
            root=Root("rootfs"),
            process=Process(args=args or ("/bin/true",), env=(f"HOSTNAME={self.id[:12]}", f"E={env}")),
            hostname=self.id[:12],
            mounts=(Mount("/etc/hosts", "bind", f"{held}/hosts", ("rbind",)), Mount("/proc", "proc", "proc")),
            linux=Linux(
                cgroups_path=f"/docker/{self.id}", namespaces=tuple(Namespace(kind) for kind in NAMESPACES)
            ),
        )
        self.packet, self.config = encode(self.wish), json.encode(self.spec)

    def planned(self) -> Image:
        program = Program(NUMBERS, BASE)
        group = cgroups.existing(LAYOUT, f"/docker/{self.id}")
        where = {"rootfs": self.wish.rootfs, "at": self.wish.bundle}
        becoming.become(program, self.spec, group, filter=None, have=0, **where)  # type: ignore[arg-type]
        return program.image()


def after(first: Container, second: Container) -> Image | None:
    """What is known of the second when the first has been planned."""
    known: Likenesses[str] = Likenesses()
    known.keep(first.packet, first.config, first.id, first.planned(), "plan")
    found = known.find(second.packet, second.config, second.id)
    assert found is None or found[1] == "plan"
    return None if found is None else found[0]


@given(st.integers(10, 99), st.integers(10, 99), st.sampled_from(["true", "/12/", "12", "a/12", "/x/12/y"]))
def test_it_is_what_planning_makes(one: int, other: int, word: str) -> None:
    first, second = Container("a", one, "/bin/sh", word), Container("b", other, "/bin/sh", word)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mounts, "TAKES_LAYERS_ONE_BY_ONE", True)
        found = after(first, second)
        assert found is None or found == second.planned()
        if word == "true":
            assert found is not None


def test_the_same_snapshot() -> None:
    first, second = Container("a", 30), Container("b", 30)
    assert after(first, second) == second.planned()


@pytest.mark.parametrize(
    "second",
    [
        Container("b", 31, "/bin/false"),
        Container("b", 31, env="x"),
        Container("b", 131),
        Container("b", 31, below=(7,)),
        Container("b", 31, below=(7, 30)),  # which was the upper one of the first
    ],
    ids=["arguments", "environment", "longer number", "fewer layers", "a number at two places"],
)
def test_another_container(second: Container) -> None:
    assert after(Container("a", 30), second) is None


def test_a_user_s_word_that_looks_like_a_snapshot() -> None:
    for word in ("/30/", "30", "/srv/30", "/srv/30/x"):
        first, second = Container("a", 30, "ls", word), Container("b", 31, "ls", word)
        found = after(first, second)
        assert found is None or found == second.planned()


def test_other_layers_of_equal_length() -> None:
    """Swapped, or one in the place of another: either right, or not known."""
    for below in ((8, 7), (5, 7), (7, 5), (9, 9)):
        second = Container("b", 31, below=below)
        found = after(Container("a", 30), second)
        assert found is None or found == second.planned()


def test_an_id_of_another_kind() -> None:
    first, second = Container("a", 30), Container("b", 31)
    known: Likenesses[str] = Likenesses()
    known.keep(first.packet, first.config, "short", first.planned(), "plan")
    assert known.find(second.packet, second.config, "short") is None


def test_no_more_than_some_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "KEPT", 2)
    known: Likenesses[str] = Likenesses()
    containers = [Container(name, 30, f"/bin/{name}") for name in "abc"]
    for one in containers:
        known.keep(one.packet, one.config, one.id, one.planned(), one.id)
    found = [known.find(one.packet, one.config, one.id) for one in containers]
    assert [one and one[1] for one in found] == [None, containers[1].id, containers[2].id]
