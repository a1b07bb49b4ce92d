"""Files of removed containers: out of sight at once by a rename, deleted later in a thread."""

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Callable

from skiff.paths import DataPaths

log = logging.getLogger(__name__)


class Trash:
    """discard is cheap; run deletes. sweepers: what else has leftovers to delete, such as the snapshots."""

    def __init__(self, data: DataPaths, *sweepers: Callable[[], None], quiet: float = 0.5) -> None:
        self.root = str(data.trash)
        self._sweepers = sweepers
        self._quiet = quiet  # seconds without which deleting would disturb the next start
        self._patience = 20 * quiet  # until the next try
        self._wanted = asyncio.Event()

    def discard(self, path: object) -> None:
        try:
            os.rename(str(path), f"{self.root}/{secrets.token_hex(8)}")
        except FileNotFoundError:
            if not os.path.isdir(self.root):
                os.makedirs(self.root, mode=0o700)
                self.discard(path)
                return
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled. What an earlier engine left is deleted too."""
        self._wanted.set()
        while True:
            await self._wanted.wait()
            await asyncio.sleep(self._quiet)
            self._wanted.clear()
            try:
                await asyncio.to_thread(self.sweep)
            except OSError as error:
                # Somebody still writes there, or a disk is ill: no reason to end the engine.
                log.warning("deleting what was removed: %s; trying again", error)
                await asyncio.sleep(self._patience)
                self._wanted.set()

    def sweep(self) -> None:
        if os.path.isdir(self.root):
            for name in os.listdir(self.root):
                shutil.rmtree(f"{self.root}/{name}", ignore_errors=True)
        for sweeper in self._sweepers:
            sweeper()
