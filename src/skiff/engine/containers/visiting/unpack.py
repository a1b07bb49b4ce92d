"""An archive from a client into a directory of a container: no whiteouts, and what may replace what.

The process has the container's root as its own and the directory as its working directory.
"""

import os
import stat

from skiff.docker.quoting import quoted
from skiff.engine.storage.tarstream import DIRECTORY, Entry, Source
from skiff.engine.storage.untar import Maker, Untar
from skiff.oci import layer


class Refused(Exception):
    """An entry would replace a directory by something else, or the reverse."""


class Unpacking(Untar):
    """keep_kind: refuse to replace a directory by a file and a file by a directory. owner: everybody's."""

    def __init__(self, where: bytes, *, keep_kind: bool, owner: tuple[int, int] | None) -> None:
        super().__init__(whiteouts="none")
        self._where = where.removesuffix(b"/.") or b"/"
        self._keep_kind = keep_kind
        self._owner = owner

    def _extract(self, entry: Entry, path: bytes, source: Source) -> None:
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if not path and entry.type == DIRECTORY:  # where it goes was there before: that stays as it is
            return
        super()._extract(entry, path, source)

    def _make(self, make: Maker, path: bytes, *, directory: bool = False) -> None:
        if self._keep_kind:
            self._check(path, becomes_directory=directory)
        super()._make(make, path, directory=directory)

    def _check(self, path: bytes, *, becomes_directory: bool) -> None:
        try:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return
        name, where = quoted(layer.show(path)), quoted(layer.show(self._where))
        if is_directory and not becomes_directory:
            raise Refused(f"cannot overwrite directory {name} with non-directory {where}")
        if not is_directory and becomes_directory:
            raise Refused(f"cannot overwrite non-directory {name} with directory {where}")
