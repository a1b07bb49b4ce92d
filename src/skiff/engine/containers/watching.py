"""Waiting for a change in a directory, so that following a log neither polls nor lags."""

import asyncio
import os
from typing import Any

from skiff.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, watch

LONGEST_WAIT = 5.0  # seconds: a net below a lost event


class Watch:
    """`with Watch(directory) as watch: await watch.changed(ended)`."""

    def __init__(self, directory: str) -> None:
        self._fd = watch(IN_MODIFY | IN_MOVED_TO | IN_CREATE, directory)

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
