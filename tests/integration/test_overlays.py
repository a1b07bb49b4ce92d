"""Overlays of many layers with odd names, by either way that kernels have."""

import os
import threading
from pathlib import Path

import pytest

from skiff.engine.storage.overlay import escape
from skiff.linux import mounts

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
ODD = ("plain", "co:lon", "com,ma", "back\\slash", "sp ace", "ünï", "two::", ",")


@pytest.fixture(params=["one by one", "in one line"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in one line":
        monkeypatch.setattr(mounts, "TAKES_LAYERS_ONE_BY_ONE", False)
    elif not mounts.TAKES_LAYERS_ONE_BY_ONE:
        pytest.skip("this kernel takes a line only")
    return str(request.param)


def layers(place: Path, *names: str) -> list[str]:
    made = []
    for name in names:
        (place / name).mkdir(parents=True)
        (place / name / "who").write_text(name)
        (place / name / name.replace("/", "_")).write_text("")
        made.append(str(place / name))
    return made


def overlay(lowers: list[str], *options: str, attributes: int = 0) -> int:
    return mounts.new_overlay([f"lowerdir={':'.join(map(escape, lowers))}", *options], attributes)


@pytest.mark.usefixtures("way")
def test_odd_names_are_told_apart(tmp_path: Path) -> None:
    before = (os.readlink("/proc/thread-self/ns/mnt"), os.getcwd(), os.stat("/").st_ino)
    (tmp_path / "up").mkdir()
    (tmp_path / "work").mkdir()
    fd = overlay(layers(tmp_path, *ODD), f"upperdir={tmp_path}/up", f"workdir={tmp_path}/work")
    try:
        assert set(os.listdir(f"/proc/self/fd/{fd}")) == {*ODD, "who"}
        assert Path(f"/proc/self/fd/{fd}/who").read_text() == "plain"
        Path(f"/proc/self/fd/{fd}/new").write_text("n")
    finally:
        os.close(fd)
    assert (tmp_path / "up" / "new").read_text() == "n"
    assert (os.readlink("/proc/thread-self/ns/mnt"), os.getcwd(), os.stat("/").st_ino) == before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.usefixtures("way")
def test_as_many_layers_as_docker_takes(tmp_path: Path) -> None:
    root = tmp_path / ("d" * 60)
    fd = overlay(
        layers(root, *(f"{number}/fs" for number in range(128))), attributes=mounts.MOUNT_ATTR_RDONLY
    )
    try:
        assert len(os.listdir(f"/proc/self/fd/{fd}")) == 129
        with pytest.raises(OSError, match="Read-only"):
            Path(f"/proc/self/fd/{fd}/new").touch()
    finally:
        os.close(fd)


@pytest.mark.usefixtures("way")
def test_any_thread_can(tmp_path: Path) -> None:
    lowers = layers(tmp_path, *ODD)
    found: list[int] = []

    def work() -> None:
        for _ in range(5):
            fd = overlay(lowers)
            found.append(len(os.listdir(f"/proc/self/fd/{fd}")))
            os.close(fd)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [len(ODD) + 1] * 20


def test_too_many_for_one_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TAKES_LAYERS_ONE_BY_ONE", False)
    lowers = layers(tmp_path, *(f"{'long' * 20}{number}" for number in range(60)))
    with pytest.raises(OSError, match="too many layers"):
        overlay(lowers)
