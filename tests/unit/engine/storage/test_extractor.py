"""The engine's end of the extraction helper: bodies from a client's socket, and helpers that end early."""

import hashlib
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.storage.archives import entry, tar

from skiff.engine.storage.extractor import Extractor, Job
from skiff.errors import HostileArchive

pytestmark = pytest.mark.root


def test_a_second_attempt_writes_its_notes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is killed, and its helper with it, when it has written some."""
    extractor = Extractor(idle_seconds=1)
    ask = extractor._ask
    whole = b""

    def killed(job: Job, files: list[int]) -> Any:
        os.write(files[1], b"of an attempt that was killed")
        monkeypatch.setattr(extractor, "_ask", ask)
        _, helper = ask(Job(None), files[:1])
        helper.process.kill()
        return b"", helper

    try:
        with tempfile.TemporaryFile(dir=tmp_path) as blob:
            blob.write(tar(entry("f", data=b"x" * 1000)))
            blob.flush()
            for asked in (ask, killed):
                monkeypatch.setattr(extractor, "_ask", asked)
                with tempfile.TemporaryDirectory(dir=tmp_path) as where, tempfile.TemporaryFile() as notes:
                    extractor.run(Job(where), blob.fileno(), notes.fileno())
                    notes.seek(0)
                    written = notes.read()
                whole = whole or written
                assert written == whole
    finally:
        extractor.close()


def framed(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def received(tmp_path: Path, sent: bytes, early: int) -> tuple[Any, bytes]:
    """What a framed job comes to, and what it left on the socket. early: bytes that were read before."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    extractor = Extractor(idle_seconds=1)

    def send() -> None:
        ours.sendall(sent[early:])
        ours.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    try:
        with ours, theirs, tempfile.TemporaryFile() as before:
            before.write(sent[:early])
            before.flush()
            sender.start()
            job = Job(str(tmp_path), "none", digests=True, framed=True)
            result = extractor.run(job, theirs.fileno(), early=before.fileno())
            sender.join(20)
            theirs.setblocking(True)
            return result, theirs.recv(1 << 16)
    finally:
        extractor.close()


@pytest.mark.parametrize("early", [0, 3, 700, 100_000])
@pytest.mark.parametrize("size", [100, 70_000, 10**7])
def test_a_body_from_its_socket(tmp_path: Path, size: int, early: int) -> None:
    data = os.urandom(300_000)
    sent = framed(tar(entry("a", data=data), entry("b"), entry("c", data=b"c")), size)
    result, left = received(tmp_path, sent, early)
    assert (tmp_path / "a").read_bytes() == data
    texts = {"a": data, "b": b"", "c": b"c"}
    assert result.sums == {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    assert (result.ended, left) == (True, b"")


def test_what_follows_a_body_is_seen(tmp_path: Path) -> None:
    """Then the connection cannot serve on: somebody has read too far."""
    result, _ = received(tmp_path, framed(tar(entry("a")), 5000) + b"GET / HTTP/1.1", 0)
    assert not result.ended


def test_a_body_that_is_cut(tmp_path: Path) -> None:
    with pytest.raises(HostileArchive):
        received(tmp_path, framed(tar(entry("a", data=b"x" * 9000)), 5000)[:6000], 0)
