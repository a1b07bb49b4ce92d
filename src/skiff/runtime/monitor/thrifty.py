"""The event loop of a monitor that gives memory back: soon after it began, then at times while there is work.

What a start wrote to is needed no more once the container runs, and a container may run for years.
"""

import time
from collections.abc import Callable
from typing import Final

from skiff.runtime.monitor.poller import Poller

SOON: Final = 0.2  # seconds
SELDOM: Final = 10.0  # giving back, and copying again what is written to again, takes a millisecond


class Thrifty(Poller):
    """give_back: is called SOON after something happened, but not again before SELDOM."""

    def __init__(self, give_back: Callable[[], object]) -> None:
        super().__init__()
        self._give_back = give_back
        self._due: float | None = None
        self._next = 0.0

    def run_once(self, timeout: int | None = None) -> bool:
        if self._due is not None:
            now = time.monotonic()
            if now >= self._due:
                self._give_back()
                self._due, self._next = None, now + SELDOM
            else:
                left = int((self._due - now) * 1000) + 1
                timeout = left if timeout is None else min(timeout, left)
        happened = super().run_once(timeout)
        if happened and self._due is None:
            self._due = max(time.monotonic() + SOON, self._next)
        return happened
