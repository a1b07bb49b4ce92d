import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from skiff.docker.container import ContainerConfig, HostConfig
from skiff.docker.container_view import ContainerState
from skiff.engine.containers import identities
from skiff.engine.containers.identities import Identities
from skiff.engine.containers.record import Container, ContainerID
from skiff.oci.digest import ChainID, ImageID

PASSWD = "root:x:0:0::/root:/bin/sh\nme:x:{}:100::/home/me:/bin/sh\n"


class Stack:
    """Two layers in place of a snapshotter; counts how often it is asked."""

    def __init__(self, place: Path) -> None:
        self.own, self.lower = place / "own", place / "lower"
        for layer in (self.own, self.lower):
            (layer / "etc").mkdir(parents=True)
        self.asked = 0

    def directory(self, _key: str) -> str:
        self.asked += 1
        return str(self.own)

    def lowers(self, _key: str) -> list[str]:
        return [str(self.lower)]


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setattr(identities, "SETTLED", -10_000_000_000)  # what was made just now is old enough
    stack = Stack(tmp_path)
    (stack.lower / "etc/passwd").write_text(PASSWD.format(1))
    return stack


def box(*, was_started: bool = True) -> Container:
    return Container(
        id=ContainerID("1" * 64),
        name="box",
        created_ns=0,
        image=ImageID("sha256:" + "1" * 64),
        chain=ChainID("sha256:" + "2" * 64),
        path="true",
        args=(),
        config=ContainerConfig(),
        host=HostConfig(),
        state=ContainerState(started_at="2026-01-01T00:00:00Z"),
        was_started=was_started,
    )


def known(stack: Any) -> Identities:
    return Identities(stack)


def test_files_are_read_once(stack: Stack) -> None:
    who = known(stack)
    assert [who.of(box(), "me").user.uid for _ in range(3)] == [1, 1, 1]
    assert stack.asked == 1


def test_an_image_is_read_once_for_all_its_containers(stack: Stack) -> None:
    who = known(stack)
    first, second = box(was_started=False), replace(box(was_started=False), id=ContainerID("3" * 64))
    assert who.of(first, "me") == who.of(second, "me")
    assert stack.asked == 1


def test_a_changed_file_is_read_again(stack: Stack) -> None:
    who = known(stack)
    assert who.of(box(), "me").user.uid == 1
    (stack.own / "etc/passwd").write_text(PASSWD.format(2))
    assert who.of(box(), "me").user.uid == 2
    (stack.own / "etc/passwd.new").write_text(PASSWD.format(3))
    os.rename(stack.own / "etc/passwd.new", stack.own / "etc/passwd")
    assert who.of(box(), "me").user.uid == 3
    os.rename(stack.own / "etc", stack.own / "gone")
    assert who.of(box(), "me").user.uid == 1


def test_what_changed_just_now_is_not_kept(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "SETTLED", 10_000_000_000)
    who = known(stack)
    who.of(box(), "me")
    who.of(box(), "me")
    assert stack.asked == 2


@pytest.mark.parametrize("layer", ["own", "lower"])
def test_behind_a_link_nothing_is_kept(stack: Stack, layer: str) -> None:
    place = stack.own.parent / layer
    (place / "etc/passwd").unlink(missing_ok=True)
    (place / "users").write_text(PASSWD.format(4))
    os.symlink("/users", place / "etc/passwd")
    who = known(stack)
    assert who.of(box(), "me").user.uid == 4
    (place / "users").write_text(PASSWD.format(5))
    assert who.of(box(), "me").user.uid == 5
