"""What counts as a change of a container."""

from pathlib import Path

from skiff.engine.containers.files import Change, changes, unchanged_ground


def _make(root: Path, *paths: str) -> str:
    for path in paths:
        where = root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            where.mkdir(exist_ok=True)
        else:
            where.write_text(path)
    return str(root)


def test_what_the_engine_made_is_no_change(tmp_path: Path) -> None:
    lower = _make(tmp_path / "lower", "etc/passwd", "bin/sh")
    upper = _make(tmp_path / "upper", "dev/", "etc/")
    (tmp_path / "upper/etc/hosts").touch()
    (tmp_path / "upper/etc/resolv.conf").touch()
    assert changes(upper, [lower]) == []
    assert {"/dev", "/etc", "/etc/hosts"} <= unchanged_ground(upper, [lower])


def test_a_file_beside_them_is_one_and_so_is_its_directory(tmp_path: Path) -> None:
    lower = _make(tmp_path / "lower", "etc/passwd")
    upper = _make(tmp_path / "upper", "etc/mine", "new/f")
    (tmp_path / "upper/etc/hosts").touch()
    assert changes(upper, [lower]) == [
        *(Change("/etc", 0), Change("/etc/mine", 1), Change("/new", 1), Change("/new/f", 1))
    ]
    assert "/etc" not in unchanged_ground(upper, [lower])


def test_another_mode_of_theirs_is_one(tmp_path: Path) -> None:
    lower = _make(tmp_path / "lower", "etc/passwd")
    upper = _make(tmp_path / "upper", "etc/")
    (tmp_path / "upper/etc").chmod(0o700)
    assert changes(upper, [lower]) == [Change("/etc", 0)]
