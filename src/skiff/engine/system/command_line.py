"""The command line, kept loaded beside the engine (cli/preloaded): started once one has called.

The process owns its socket and what names its front, and goes when the pipe from here is at its end. It may
go sooner; then the next call starts another.
"""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from skiff.linux import machine, syscalls

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0  # seconds for its end
_START: Final = """import sys
sys.path[:] = sys.argv.pop(1).split(":")
from skiff.cli.preloaded import server
server.main()
"""


class CommandLine:
    """One helper process at most. address: its socket's path. front: that of an executable. sockets: the
    engine's own; beside each will be a file that names the front.
    """

    def __init__(self, address: str, front: str, sockets: Sequence[str]) -> None:
        signs = (f"{path}.front" for path in sockets)
        self._words = [os.path.abspath(path) for path in (address, front, *signs)]
        self._possible = bool(sockets) and syscalls.architecture() in machine.WALK
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[None] | None = None

    def called(self) -> None:
        """A command line is there: the next one shall find itself loaded."""
        code = 0 if self._process is None else self._process.returncode
        if code == 1:  # it has said why it cannot be
            self._possible = False
        if self._possible and code is not None and self._starting is None:
            self._starting = asyncio.create_task(self._start())

    async def close(self) -> None:
        """It ends; commands in progress do not."""
        if self._starting is not None:
            await self._starting
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            log.warning("the loaded command line, process %d, does not leave: killed", process.pid)
            process.kill()
            await process.wait()

    async def _start(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-ISc", _START, ":".join(filter(None, sys.path)), *self._words),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
                cwd="/",
            )
        except OSError as error:
            log.warning("cannot keep the command line loaded: %s", error)
        finally:
            self._starting = None
