"""The monitor's event loop: poll(2) and a table of callbacks. No thread, no task, hardly a byte of memory."""

import select
from collections.abc import Callable

READ = select.POLLIN
WRITE = select.POLLOUT
GONE = select.POLLHUP | select.POLLERR  # always told, whatever is asked for

Callback = Callable[[int], None]


class Poller:
    """fd → callback(events). A callback may watch and forget any descriptor, its own too."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callback] = {}

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Call back on these events; replaces what was asked before."""
        self._poll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Before the descriptor is closed; no error if it was not watched."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def __contains__(self, fd: int) -> bool:
        return fd in self._callbacks

    def run_once(self, timeout: int | None = None) -> bool:
        """Wait (ms; None: for ever) and call back everything that is ready; whether anything was."""
        ready = self._poll.poll(timeout)
        for fd, events in ready:
            if callback := self._callbacks.get(fd):
                callback(events)
        return bool(ready)
