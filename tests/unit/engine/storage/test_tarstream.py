import io
import itertools
import os
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.engine.storage.archives import DIRECTORY, LINK, SYMLINK, entry, tar

from skiff.engine.storage import tarstream, tarwriter
from skiff.engine.storage.tarstream import Entry, Source, entries, number, pax_records
from skiff.errors import HostileArchive


def read(data: bytes, chunk: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    source = Source(data[at : at + chunk] for at in range(0, len(data), chunk))
    found = []
    for one in entries(source):
        body = b"".join(source.pieces(one.size)) if one.type == tarstream.REGULAR else b""
        found.append((one, body))
    return found


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("chunk", [1, 511, 512, 513, 1 << 20])
def test_what_tarfile_writes(format: int, chunk: int) -> None:
    data = tar(
        entry("dir/", DIRECTORY, mode=0o1777),
        entry("dir/file", data=b"x" * 1000, uid=5, gid=6, mode=0o4755),
        entry("dir/link", LINK, linkname="dir/file"),
        entry("sym", SYMLINK, linkname="dir/file"),
        entry("p/" * 60 + "prefix"),
        format=format,
    )
    found = read(data, chunk)
    assert [e.name.rstrip(b"/") for e, _ in found[:4]] == [b"dir", b"dir/file", b"dir/link", b"sym"]
    assert found[4][0].name == b"p/" * 60 + b"prefix"
    file, body = found[1]
    assert (file.uid, file.gid, file.mode, file.mtime, body) == (5, 6, 0o4755, 10**18, b"x" * 1000)
    assert found[2][0].link == b"dir/file"


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_numbers(format: int) -> None:
    name, link = "n" * 300, "l" * 400
    [(found, _)] = read(tar(entry(name, SYMLINK, linkname=link, uid=3_000_000, gid=4_000_000), format=format))
    assert (found.name, found.link) == (name.encode(), link.encode())
    assert (found.uid, found.gid) == (3_000_000, 4_000_000)


@pytest.mark.parametrize("here", [0, 100, 300_000])
@pytest.mark.parametrize("size", [0, 50, 300_000, 900_000])
def test_files_go_where_they_belong_by_either_way(tmp_path: Path, here: int, size: int) -> None:
    """What is in a chunk already, and what never comes to be in one."""
    content = random.Random(size).randbytes(1_000_000)
    rest = io.BytesIO(content[here:])
    chunks = iter([content[:here]])

    def pour(fd: int, most: int) -> int:
        return os.write(fd, rest.read(min(most, 70_000)))

    source = Source(itertools.chain(chunks, iter(lambda: rest.read(9_000), b"")), pour)
    assert source.read(20) == content[:20]
    with open(tmp_path / "file", "wb", buffering=0) as file:
        source.into(file.fileno(), size)
        assert (tmp_path / "file").read_bytes() == content[20 : 20 + size]
        assert source.read(30) == content[20 + size : 50 + size]
        with pytest.raises(HostileArchive, match="unexpected EOF"):
            source.into(file.fileno(), 1_000_000)


def test_pax_attributes() -> None:
    headers = {"SCHILY.xattr.user.a": "1=2", "LIBARCHIVE.xattr.user.b%20c": "eA", "mtime": "1.25"}
    [(found, _)] = read(tar(entry("a", pax_headers=headers)))
    assert found.xattrs == [(b"user.a", b"1=2"), (b"user.b c", b"x")]
    assert found.mtime == 1_250_000_000


def test_the_name_in_the_pax_records_tells_what_it_is() -> None:
    """Go leaves out of the header's name what is not ASCII: of `d/ñ` remains what looks like a directory."""
    record = b"13 path=d/\xc3\xb1\n"
    extended = tarfile.TarInfo("d/PaxHeaders.0")
    extended.type, extended.size = tarfile.XHDTYPE, len(record)
    file = tarfile.TarInfo("d/")
    file.size = 3
    blocks = [extended.tobuf(), record.ljust(512, b"\0"), file.tobuf(), b"abc".ljust(512, b"\0"), bytes(512)]
    assert [(one.name, one.type, body) for one, body in read(b"".join(blocks))] == [
        ("d/ñ".encode(), tarstream.REGULAR, b"abc")
    ]


def test_global_headers_apply_to_all() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"uid": "77"}) as archive:
        archive.addfile(tarfile.TarInfo("a"))
        archive.addfile(tarfile.TarInfo("b"))
    assert [e.uid for e, _ in read(out.getvalue())] == [77, 77]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"\0" * 8, 0),
        (b"\x80\0\0\0\0\0\1\0", 256),
        (b"\xff" * 12, -1),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert number(field) == value


@pytest.mark.parametrize("field", [b"0x10\0\0\0\0", b"-1\0\0\0\0\0\0", b"9\0\0\0\0\0\0\0", b"1_0\0\0\0\0\0"])
def test_malformed_numbers(field: bytes) -> None:
    with pytest.raises(HostileArchive):
        number(field)


@pytest.mark.parametrize(
    "body",
    [b"5 a=\n", b"x a=b\n", b"999 a=b\n", b"6 ab\n\n", b"0 a=b\n", b"7 a=bc ", b"6 =bc\n", b" 6 a=b\n"],
)
def test_malformed_pax_records(body: bytes) -> None:
    if body == b"5 a=\n":
        assert pax_records(body) == {b"a": b""}
        return
    with pytest.raises(HostileArchive):
        pax_records(body)


def _patched(data: bytes, at: int, field: bytes) -> bytes:
    header = bytearray(data[:512])
    header[at : at + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def test_hostile_headers() -> None:
    good = tar(entry("a", data=b"hello"), format=tarfile.USTAR_FORMAT)
    for data, words in [
        (good[:700], "unexpected EOF"),
        (good[:300], "unexpected EOF"),
        (b"x" * 2048, "invalid tar header"),
        (_patched(good, 124, b"\xff" * 12), "bytes"),
        (_patched(good, 156, b"S"), "sparse"),
        (_patched(good, 156, b"Z"), "type"),
        (_patched(good, 108, b"\x80" + b"\xff" * 7), "owner"),
        (_patched(good, 136, b"\x80" + b"\x7f" * 11), "time"),
        (_patched(_patched(good, 156, b"x"), 124, b"77777777777\0"), "expected at most"),
        (_patched(_patched(good, 156, b"L"), 124, b"77777777777\0"), "expected at most"),
        (_patched(_patched(good, 156, b"1"), 124, b"00000000010\0"), "hard link with data"),
        (tar(entry("a", pax_headers={"GNU.sparse.major": "1"})), "sparse"),
    ]:
        with pytest.raises(HostileArchive, match=words):
            read(data)


@given(st.binary(max_size=3000))
@example(b"\0" * 511)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read(data, 700)
    except HostileArchive:
        pass


@given(st.data())
def test_a_flipped_archive_is_read_or_refused(data: st.DataObject) -> None:
    archive = bytearray(
        tar(
            entry("d" * 150 + "/x", data=b"y" * 700, pax_headers={"SCHILY.xattr.user.a": "b"}),
            entry("link", SYMLINK, linkname="e" * 150),
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(archive))
    except HostileArchive:
        pass


XATTRS = st.text("abc.", min_size=1).map(lambda text: b"user." + text.encode())
NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))


@given(
    name=NAMES,
    link=NAMES,
    mode=st.integers(0, 0o7777),
    owner=st.integers(0, tarstream.LARGEST_OWNER),
    mtime=st.integers(-(10**18), 10**19),
    xattrs=st.dictionaries(
        st.text("abc.", min_size=1).map(lambda text: b"user." + text.encode()),
        st.binary(max_size=99),
        max_size=3,
    ),
)
def test_what_we_write_we_read(
    name: bytes, link: bytes, mode: int, owner: int, mtime: int, xattrs: dict[bytes, bytes]
) -> None:
    header = tarwriter.header(
        b"2",
        name,
        mode=mode,
        uid=owner,
        gid=owner,
        mtime_ns=mtime,
        link=link,
        xattrs=tuple(sorted(xattrs.items())),
        exact_time=True,
    )
    [(found, _)] = read(header + tarwriter.END)
    assert (found.name, found.link, found.mode, found.uid, found.mtime) == (name, link, mode, owner, mtime)
    assert dict(found.xattrs) == xattrs


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200),
    size=st.integers(0, 5000),
)
def test_tarfile_reads_what_we_write(name: str, size: int) -> None:
    name = name.strip("/") or "x"
    header = tarwriter.header(b"0", name.encode(), mode=0o600, size=size)
    data = header + bytes(size) + tarwriter.padding(size) + tarwriter.END
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8") as archive:
        [info] = archive.getmembers()
    assert (info.name, info.size, info.mode) == (name, size, 0o600)
