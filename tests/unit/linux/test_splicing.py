import os
import socket
import threading
from pathlib import Path

import pytest

from skiff.linux.splicing import Splice

CONTENT = os.urandom(3_000_000)


def test_bytes_of_a_socket_end_up_in_a_file(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()

    def send() -> None:
        with theirs:
            theirs.sendall(CONTENT)

    sender = threading.Thread(target=send)
    sender.start()
    splice = Splice()
    with ours, open(tmp_path / "file", "wb", buffering=0) as file:
        left = len(CONTENT)
        while taken := splice.take(ours.fileno(), left):
            assert taken <= left
            splice.give(file.fileno(), taken)
            left -= taken
        assert not left
        assert splice.take(ours.fileno(), 10) == 0
    sender.join()
    splice.close()
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_no_more_is_taken_than_asked_for(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    splice = Splice()
    with ours, theirs, open(tmp_path / "file", "wb", buffering=0) as file:
        theirs.sendall(b"file and more")
        assert splice.take(ours.fileno(), 4) == 4
        splice.give(file.fileno(), 4)
        assert ours.recv(99) == b" and more"
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            splice.take(ours.fileno(), 4)
    splice.close()
    assert (tmp_path / "file").read_bytes() == b"file"


def test_a_target_that_cannot_be_spliced_to_is_written(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    splice = Splice()
    with ours, theirs, open(tmp_path / "file", "ab", buffering=0) as file:  # EINVAL: it appends
        theirs.sendall(b"content")
        assert splice.take(ours.fileno(), 99) == 7
        splice.give(file.fileno(), 7)
    splice.close()
    assert (tmp_path / "file").read_bytes() == b"content"
