"""Bytes that go past the process: what could be moved so, and what is left to be read."""

import _socket
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skiff.client import bulk


@pytest.mark.parametrize(("flags", "moves_all"), [(0, True), (os.O_APPEND, False)])
def test_what_cannot_be_spliced_is_left_and_nothing_is_lost(
    tmp_path: Path, flags: int, moves_all: bool
) -> None:
    ours, theirs = socket.socketpair()
    data = bytes(range(256)) * 12_000  # more than a pipe holds
    fd = os.open(tmp_path / "f", os.O_WRONLY | os.O_CREAT | flags)
    with ours, theirs, open(fd, "wb", buffering=0), ThreadPoolExecutor(1) as pool:
        pool.submit(theirs.sendall, data).add_done_callback(lambda _: theirs.shutdown(socket.SHUT_WR))
        raw = _socket.socket(fileno=os.dup(ours.fileno()))
        moved = bulk.drain(raw, fd, len(data) + 1)
        raw.close()
        rest = ours.makefile("rb").read()
    assert (moved == len(data)) is moves_all
    assert (tmp_path / "f").read_bytes() == data[:moved]
    assert rest == data[moved:]


def test_a_socket_with_tls_is_not_spliced(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()  # anything that is no plain socket of the interpreter's own
    with ours, theirs, open(tmp_path / "f", "wb") as file:
        theirs.sendall(b"x")
        assert bulk.drain(ours, file.fileno(), 1) == 0
        assert ours.recv(2) == b"x"
