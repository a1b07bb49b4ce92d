"""Bytes on their way, as a person at a terminal sees them; and nothing elsewhere."""

import io
import os
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from skiff.cli import transfer
from skiff.cli.transfer import PART, Transfer, Watched
from skiff.client.bulk import FilePart


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    screen = Terminal()
    monkeypatch.setattr(transfer, "sys", SimpleNamespace(stderr=screen))
    monkeypatch.setattr(transfer, "PATIENCE", -1.0)
    monkeypatch.setattr(transfer, "INTERVAL", 0.0)
    return screen


def test_it_is_drawn_in_place_and_taken_away(terminal: Terminal) -> None:
    assert list(Transfer("Saving").through(iter([b"x" * 1000, b"y" * 500]))) == [b"x" * 1000, b"y" * 500]
    assert terminal.getvalue() == "\r\x1b[KSaving 1kB\r\x1b[KSaving 1.5kB\r\x1b[K"


def test_with_a_total_it_is_a_bar(terminal: Terminal) -> None:
    list(Transfer("Sending", total=1000).through(iter([b"x" * 500])))
    assert "Sending [" + "=" * 25 + ">" + " " * 25 + "]     500B/1kB" in terminal.getvalue()


def test_parts_of_files_are_counted_as_they_go(terminal: Terminal) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(2 * PART + 5)
        moving = Transfer("Sending")
        sizes = [len(piece) for piece in moving.through(iter([FilePart(file.fileno(), 2 * PART + 5)]))]
    assert sizes == [PART, PART, 5]
    assert moving.size == 2 * PART + 5


def test_a_pipe_gets_nothing_and_whole_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    part = FilePart(0, 3 * PART)

    def pieces() -> Iterator[bytes | FilePart]:
        yield b"x"
        yield part

    assert list(Transfer("Sending").through(pieces())) == [b"x", part]
    assert capsys.readouterr() == ("", "")


def test_quiet_is_quiet(terminal: Terminal) -> None:
    list(Transfer("Saving", quiet=True).through(iter([b"x"])))
    assert terminal.getvalue() == ""


def test_a_failure_on_the_way_leaves_the_line_to_the_error(terminal: Terminal) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        list(Transfer("Saving").through(broken()))
    assert terminal.getvalue().endswith("\r\x1b[K")


class Body:
    def take(self) -> bytes:
        return b"head"

    def pour(self, fd: int, size: int) -> None:
        assert 0 < size <= PART


def test_a_body_is_counted_while_it_is_poured(terminal: Terminal) -> None:
    moving = Transfer("Copying")
    watched = Watched(Body(), moving)
    assert watched.take() == b"head"
    watched.pour(0, 2 * PART + 5)
    assert moving.size == 4 + 2 * PART + 5
    assert terminal.getvalue().count("Copying") == 4


def test_file_parts_are_cut_without_loss() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    assert [len(part) for part in FilePart(reader, 10).cut(4)] == [4, 4, 2]
    assert [len(part) for part in FilePart(reader, 0).cut(4)] == []
    os.close(reader)
