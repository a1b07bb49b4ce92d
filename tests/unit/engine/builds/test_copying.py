"""What COPY writes, file by file, and what it takes. Without layers below, so without privileges."""

import os
import stat
from pathlib import Path

import pytest

from skiff.engine.builds.copying import Copier, Target, chmod
from skiff.engine.builds.layering import _clamp
from skiff.engine.builds.selection import content_parts, newest, select
from skiff.engine.builds.tree import seen
from skiff.errors import InvalidParameter

EPOCH = 1_700_000_000 * 10**9
ME = (os.geteuid(), os.getegid())


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "d/sub").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "b.txt").write_text("b")
    (root / "d/f").write_text("f")
    (root / "d/sub/g").write_text("g")
    (root / "d/link").symlink_to("f")
    (root / "to-d").symlink_to("d")
    (root / "d/f").chmod(0o640)
    return root


def copied(context: Path, tmp_path: Path, patterns: list[str], to: str, **how: bool) -> Path:
    upper, base = tmp_path / "upper", tmp_path / "base"
    upper.mkdir(exist_ok=True)
    base.mkdir(exist_ok=True)
    with seen([str(context)]) as source, seen([str(base)]) as below:
        target = Target(str(upper), [str(base)], below, EPOCH)
        copier = Copier(target, source, owner=ME, mode=None, may_link=how.pop("may_link", False))
        chosen = select(source, patterns, parents=how.get("parents", False))
        for one in chosen:
            into = to.endswith("/") or len(chosen) > 1
            copier.copy(one, to, into=into, parents=how.get("parents", False))
    return upper


def names(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()
    )


@pytest.mark.parametrize(
    ("patterns", "to", "expected"),
    [
        (["a.txt"], "/x", ["x"]),
        (["a.txt"], "/x/", ["x/a.txt"]),
        (["*.txt"], "/x", ["x/a.txt", "x/b.txt"]),
        (["d"], "/x", ["x/f", "x/link", "x/sub/g"]),
        (["to-d"], "/x", ["x/f", "x/link", "x/sub/g"]),
        (["d/link"], "/x", ["x"]),
        (["d/*/g"], "/x/", ["x/g"]),
        (["../../a.txt"], "/x", ["x"]),
        (["/"], "/", ["a.txt", "b.txt", "d/f", "d/link", "d/sub/g", "to-d"]),
    ],
)
def test_where_things_go(
    context: Path, tmp_path: Path, patterns: list[str], to: str, expected: list[str]
) -> None:
    assert names(copied(context, tmp_path, patterns, to)) == expected


def test_parents_are_kept_behind_the_pivot(context: Path, tmp_path: Path) -> None:
    assert names(copied(context, tmp_path, ["d/./sub/g"], "/x/", parents=True)) == ["x/sub/g"]
    assert "x/d/sub/g" in names(copied(context, tmp_path, ["d/sub/g"], "/x/", parents=True))


def test_modes_and_times_are_the_sources(context: Path, tmp_path: Path) -> None:
    os.utime(context / "d/f", (5, 5))
    os.mkfifo(context / "d/pipe")
    (context / "d/pipe").chmod(0o666)
    upper = copied(context, tmp_path, ["d"], "/x")
    assert stat.S_IMODE((upper / "x/pipe").stat().st_mode) == 0o666
    status = (upper / "x/f").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o640, 5)
    assert stat.S_IMODE((upper / "x").stat().st_mode) == 0o755


def test_files_that_stay_as_they_are_are_linked_once(context: Path, tmp_path: Path) -> None:
    os.utime(context / "a.txt", (1, 1))  # a time later than the build's would be changed for both
    upper = copied(context, tmp_path, ["a.txt"], "/x", may_link=True)
    assert (upper / "x").stat().st_ino == (context / "a.txt").stat().st_ino
    copied(context, tmp_path, ["a.txt"], "/y", may_link=True)
    assert (upper / "y").stat().st_ino != (context / "a.txt").stat().st_ino


@pytest.mark.parametrize("pattern", ["nothing", "d/nothing/x"])
def test_what_is_not_there_is_told(context: Path, tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^stat .*: file does not exist$"):
        copied(context, tmp_path, [pattern], "/x")


def test_links_of_the_context_do_not_lead_out(context: Path, tmp_path: Path) -> None:
    (context / "out").symlink_to("/etc/passwd")
    with pytest.raises(InvalidParameter, match="out"):
        copied(context, tmp_path, ["out"], "/x")


def test_a_link_among_the_sources_is_no_way_out_of_the_target(context: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (context / "one").mkdir()
    (context / "one/d").symlink_to(outside)
    (context / "two/d").mkdir(parents=True)
    (context / "two/d/f").write_text("f")
    copied(context, tmp_path, ["one"], "/x")
    copied(context, tmp_path, ["two"], "/x")
    assert not list(outside.iterdir())


def test_the_key_sees_content_and_mode_but_no_time(context: Path) -> None:
    def parts() -> dict[str, str]:
        with seen([str(context)]) as tree:
            return {part.name: part.value for part in content_parts(tree, select(tree, ["d"]), owners=False)}

    first = parts()
    os.utime(context / "d/f", (9, 9))
    assert parts() == first
    (context / "d/f").write_text("changed")
    changed = parts()
    assert [name for name in changed if changed[name] != first[name]] == ["file d/f"]
    (context / "d/sub/g").chmod(0o777)
    assert parts()["file d/sub/g"] != changed["file d/sub/g"]


def test_names_that_are_no_text_have_keys_of_their_own(tmp_path: Path) -> None:
    names = ["\udcff", "\udcfe", "'\\udcff'", "\\udcff", '"', "é"]
    for name in names:
        (tmp_path / name).write_text("same")
        (tmp_path / f"l{name}").symlink_to(name)
    with seen([str(tmp_path)]) as tree:
        parts = content_parts(tree, select(tree, ["/"]), owners=False)
    assert len({part.name for part in parts}) == len(parts) == 2 * len(names) + 1
    assert len({part.value for part in parts if part.value.startswith("link ")}) == len(names)
    assert "file é" in {part.name.encode().decode() for part in parts}


def test_later_times_are_clamped_and_the_size_is_told(tmp_path: Path) -> None:
    root = tmp_path / "layer"
    root.mkdir()
    assert _clamp(str(root), EPOCH) is None
    (root / "f").write_text("12345")
    os.link(root / "f", root / "g")
    os.symlink("nowhere", root / "l")
    assert _clamp(str(root), EPOCH) == 5
    assert {path.lstat().st_mtime_ns for path in root.iterdir()} == {EPOCH}
    assert newest(str(root)) == EPOCH


@pytest.mark.parametrize(
    ("text", "mode", "is_directory", "expected"),
    [
        ("644", 0o777, False, 0o644),
        ("4755", 0, False, 0o4755),
        ("u=rwX,go=rX", 0o640, False, 0o644),
        ("u=rwX,go=rX", 0o640, True, 0o755),
        ("u=rwX,go=rX", 0o100, False, 0o755),
        ("a-w", 0o666, False, 0o444),
        ("g+s,+t", 0o755, True, 0o3755),
    ],
)
def test_chmod(text: str, mode: int, is_directory: bool, expected: int) -> None:
    made = chmod(text)
    assert made is not None
    assert made.of(mode, is_directory=is_directory) == expected


@pytest.mark.parametrize("text", ["8", "99999", "u", "u=z", "x=r", "u=r,"])
def test_chmod_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter, match="chmod"):
        chmod(text)
