"""Modules of ours are found by a look or two, and never in a state that is not their source's."""

import importlib
import os
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiff.cli.shortcut import Shortcut


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a package `boat` with a module and a package below, all compiled."""
    for name, text in (
        ("__init__", ""),
        ("mast", "HEIGHT = 7"),
        ("hull/__init__", ""),
        ("hull/keel", "X = 1"),
    ):
        file = tmp_path / "boat" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        py_compile.compile(str(file))
    return tmp_path


@pytest.fixture
def shortcut(root: Path) -> Iterator[Shortcut]:
    finder = Shortcut(str(root), "boat")
    sys.meta_path.insert(0, finder)
    yield finder
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "boat"]:
        del sys.modules[name]


@pytest.mark.usefixtures("shortcut")
def test_modules_are_loaded_as_ever(root: Path) -> None:
    mast = importlib.import_module("boat.mast")
    keel = importlib.import_module("boat.hull.keel")
    assert (mast.HEIGHT, keel.X) == (7, 1)
    assert mast.__spec__ is not None
    assert isinstance(mast.__spec__.loader, Shortcut)
    assert mast.__file__ == f"{root}/boat/mast.py"
    assert mast.__package__ == "boat"
    assert list(sys.modules["boat.hull"].__path__) == [f"{root}/boat/hull"]


def test_a_change_of_the_source_is_seen(shortcut: Shortcut, root: Path) -> None:
    (root / "boat/mast.py").write_text("HEIGHT = 8000")
    assert shortcut.find_spec("boat.mast") is None
    os.utime(root / "boat/hull/keel.py", (1, 1))
    assert shortcut.find_spec("boat.hull.keel") is None


def test_what_is_not_there_is_for_others(shortcut: Shortcut, root: Path) -> None:
    assert shortcut.find_spec("boat.sail") is None
    assert shortcut.find_spec("json") is None
    assert shortcut.find_spec("boatyard") is None
    (root / "boat/mast.py").unlink()
    assert shortcut.find_spec("boat.mast") is None


@pytest.mark.parametrize("damage", [b"", b"\0" * 16, b"\xff" * 200])
def test_what_is_damaged_is_for_others(shortcut: Shortcut, root: Path, damage: bytes) -> None:
    (compiled,) = (root / "boat/__pycache__").glob("mast.*")
    compiled.write_bytes(damage)
    assert shortcut.find_spec("boat.mast") is None


def test_what_was_compiled_by_hash_is_for_others(shortcut: Shortcut, root: Path) -> None:
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    py_compile.compile(str(root / "boat/mast.py"), invalidation_mode=mode)
    assert shortcut.find_spec("boat.mast") is None
