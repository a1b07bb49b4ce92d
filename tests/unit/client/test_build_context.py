"""A directory as a context: what is in the tar, and that any tar reader understands it."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from skiff.client import build_context
from skiff.client.build_context import Context


def packed(context: Context) -> tarfile.TarFile:
    data = b"".join(context.tar())
    assert context.size == len(data)
    return tarfile.open(fileobj=io.BytesIO(data))


def names(root: Path, dockerfile: str = "Dockerfile", extra: dict[str, bytes] | None = None) -> list[str]:
    return packed(Context(str(root), dockerfile, extra)).getnames()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "d/deep").mkdir(parents=True)
    for name in ("Dockerfile", "a", "d/b", "d/deep/c"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_everything_sorted_and_roots(root: Path) -> None:
    tar = packed(Context(str(root), "Dockerfile"))
    assert tar.getnames() == ["Dockerfile", "a", "d", "d/b", "d/deep", "d/deep/c"]
    assert {(entry.uid, entry.gid) for entry in tar} == {(0, 0)}
    held = tar.extractfile("d/deep/c")
    assert held is not None
    assert held.read() == b"d/deep/c"


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        ("d\n", [".dockerignore", "Dockerfile", "a"]),
        ("*\n!a\n", [".dockerignore", "Dockerfile", "a"]),
        ("*\n!d/deep\n", [".dockerignore", "Dockerfile", "d/deep", "d/deep/c"]),
        ("# nothing\n", [".dockerignore", "Dockerfile", "a", "d", "d/b", "d/deep", "d/deep/c"]),
    ],
)
def test_what_is_left_out(root: Path, ignore: str, expected: list[str]) -> None:
    (root / ".dockerignore").write_text(ignore)
    assert names(root) == expected


def test_a_dockerfiles_own_ignore_file_counts_first(root: Path) -> None:
    (root / ".dockerignore").write_text("a\n")
    (root / "Dockerfile.dockerignore").write_text("d\nDockerfile.dockerignore\n")
    assert names(root) == [".dockerignore", "Dockerfile", "a"]


def test_long_names_links_and_files_from_elsewhere(root: Path) -> None:
    long = "x" * 120
    (root / long).write_text("long")
    (root / "ü").symlink_to("a")
    os.link(root / "a", root / "a2")
    tar = packed(Context(str(root), "", {".dockerfile.stdin": b"FROM x"}))
    assert tar.getmember("a2").linkname == "a"
    assert tar.getmember("ü").linkname == "a"
    assert tar.getmember(long).size == 4
    assert tar.getmember(".dockerfile.stdin").size == 6


def test_the_same_directory_gives_the_same_bytes(root: Path) -> None:
    first = b"".join(Context(str(root), "Dockerfile").tar())
    assert b"".join(Context(str(root), "Dockerfile").tar()) == first


def test_a_context_without_ignored_files_loads_no_regular_expressions(root: Path) -> None:
    program = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from skiff.client.build_context import Context\n"
        "from skiff.client.context_sync import Sync\n"
        "assert Sync(Context(sys.argv[2], '')).manifest\n"
        "print('re' in sys.modules)\n"
    )
    source = str(Path(build_context.__file__).parents[2])
    asked = [sys.executable, "-IS", "-c", program, source, str(root)]
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout == "False\n"
    (root / ".dockerignore").write_text("a\n")
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout == "True\n"
