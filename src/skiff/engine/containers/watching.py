"""Waiting for a change in a directory: inotify(7), so that following a log neither polls nor lags."""

import asyncio
import ctypes
import os
from typing import Any

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_NONBLOCK = 0o4000
IN_CLOEXEC = 0o2000000

_libc = ctypes.CDLL(None, use_errno=True)
LONGEST_WAIT = 5.0  # seconds: a net below a lost event


class Watch:
    """`with Watch(directory) as watch: await watch.changed(ended)`."""

    def __init__(self, directory: str) -> None:
        self._fd = _libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), directory)
        if _libc.inotify_add_watch(self._fd, os.fsencode(directory), IN_MODIFY | IN_MOVED_TO | IN_CREATE) < 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, os.strerror(number), directory)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    async def changed(self, ended: "asyncio.Future[Any]") -> None:
        """Until something there was written, made or renamed, or `ended` is done."""
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._fd, _tell, news)
        try:
            await asyncio.wait((news, ended), return_when=asyncio.FIRST_COMPLETED, timeout=LONGEST_WAIT)
        finally:
            loop.remove_reader(self._fd)
            news.cancel()
        try:
            os.read(self._fd, 64 * 1024)  # drain: what changed does not matter
        except BlockingIOError:
            return


def _tell(news: "asyncio.Future[None]") -> None:
    if not news.done():
        news.set_result(None)
