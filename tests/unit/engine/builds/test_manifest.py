"""Manifests of contexts: what the client writes the engine reads, and nothing else gets through."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.client.build_context import Context
from skiff.client.context_sync import Sync
from skiff.engine.builds.manifest import read_manifest
from skiff.errors import InvalidParameter


def test_what_the_client_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f with\nnewline").write_text("x")
    (tmp_path / "l").symlink_to("d/f")
    os.link(tmp_path / "d/f with\nnewline", tmp_path / "other")
    os.mkfifo(tmp_path / "p")
    records = read_manifest(Sync(Context(str(tmp_path), "")).manifest)
    assert [(one.kind, one.path, one.target) for one in records] == [
        ("d", "d", ""),
        ("f", "d/f with\nnewline", ""),
        ("l", "l", "d/f"),
        ("h", "other", "d/f with\nnewline"),
        ("p", "p", ""),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"f 644 1 2 3 ../x\0",
        b"f 644 1 2 3 /x\0",
        b"f 644 1 2 3 a/./b\0",
        b"f 644 1 2 3 a//b\0",
        b"f 644 one 2 3 a\0",
        b"f 644 %s 2 3 a\0" % (b"9" * 5000),
        b"f 644 1 -%s 3 a\0" % (b"9" * 5000),
        b"f 644 1 --2 3 a\0",
        b"x 644 1 2 3 a\0",
        b"f 648 1 2 3 a\0",
        b"f -644 1 2 3 a\0",
        b"f  1 2 3 a\0",
        b"f %s 1 2 3 a\0" % (b"7" * 5000),
        b"f 644 1 2 a\0",
        b"l 777 1 2 3 a",
        b"f 644 1 2 3 a\0f 644 1 2 3 a\0",
        b"\0f 644 1 2 3 a\0",
    ],
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidParameter, match="invalid build context manifest"):
        read_manifest(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        records = read_manifest(data)
    except InvalidParameter:
        return
    assert all(part not in ("", ".", "..") for one in records for part in one.path.split("/"))


@given(st.lists(st.sampled_from([b"f", b"l", b" ", b"\0", b"644", b"1", b"a", b"/", b".."])))
def test_almost_manifests_are_read_or_refused(parts: list[bytes]) -> None:
    test_any_bytes_are_read_or_refused.hypothesis.inner_test(b"".join(parts))  # type: ignore[attr-defined]
