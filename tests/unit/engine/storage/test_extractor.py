"""The engine's end of the extraction helper, when helpers end early."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.storage.archives import entry, tar

from skiff.engine.storage.extractor import Extractor, Job

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
