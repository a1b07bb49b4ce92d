"""The command line, kept loaded beside the engine (cli/preloaded): started once one has called.

The process owns its socket and its fronts, and goes when the pipe from here is at its end. It may go sooner;
then the next call starts another.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from skiff.linux import machine, syscalls

_START: Final = """import sys
sys.path[:] = sys.argv.pop(1).split(":")
from skiff.cli.preloaded import server
server.main()
"""


class CommandLine:
    """One helper process at most. address: its socket's path. sockets: the paths of the engine's own."""

    def __init__(self, address: str, sockets: Sequence[str]) -> None:
        self._words = [os.path.abspath(address), *(f"{os.path.abspath(path)}.front" for path in sockets)]
        self._process: subprocess.Popen[bytes] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._possible = bool(sockets) and syscalls.architecture() in machine.WALK

    def called(self) -> None:
        """A command line is there: the next one shall find itself loaded."""
        if not self._possible or self._starting is not None:
            return
        if self._process is None or self._process.poll() is not None:
            self._starting = asyncio.create_task(self._start())

    async def close(self) -> None:
        """It ends; commands in progress do not."""
        if self._starting is not None:
            await self._starting
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            await asyncio.to_thread(process.wait)

    async def _start(self) -> None:
        try:
            self._process = await asyncio.to_thread(self._spawned)
        finally:
            self._starting = None

    def _spawned(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-ISc", _START, ":".join(filter(None, sys.path)), *self._words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            cwd="/",
        )
