"""What an extraction tells of an archive's files has a bound."""

import os
from pathlib import Path

import pytest
from tests.unit.engine.storage.archives import LINK, entry, tar

from skiff.engine.storage import untar
from skiff.engine.storage.tarstream import Source
from skiff.engine.storage.untar import Untar
from skiff.errors import HostileArchive


def test_the_list_of_digests_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [entry(f"{number:04}", data=b"x") for number in range(10)]
    links = [entry(f"l{number:03}", LINK, linkname="0000") for number in range(10)]
    monkeypatch.setattr(untar, "LARGEST_LIST", 20 * (4 + 64))
    for number, archive in enumerate((tar(*files, *links), tar(*files, *links, entry("more", data=b"x")))):
        place = tmp_path / str(number)
        place.mkdir()
        monkeypatch.chdir(place)
        mask = os.umask(0)
        try:
            one = Untar(whiteouts="none", keep_owners=False, digests=True)
            if number:
                with pytest.raises(HostileArchive, match="more files than a list of 1360 bytes names"):
                    one.run(Source([archive]))
            else:
                one.run(Source([archive]))
                assert len(one.sums) == 20
        finally:
            os.umask(mask)
