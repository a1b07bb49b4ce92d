"""The monitor's side of its conversation with the engine: one channel at a time, and the socket for the
next one.

Packets that the engine does not take at once are kept in order. A newer engine replaces an older one.
"""

import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence

from skiff.linux import fds, safepath
from skiff.runtime.monitor.poller import GONE, READ, WRITE, Poller
from skiff.runtime.protocol import MAX_PACKET, Message, encode

SOCKET = "monitor.sock"


def listening(bundle: str) -> socket.socket:
    """monitor.sock in the bundle. OSError.

    The path goes through a descriptor: sun_path holds 107 bytes only.
    """
    listener = socket.socket(
        socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )
    directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    old = os.umask(0o177)
    try:
        listener.bind(f"{safepath.fd_path(directory)}/{SOCKET}")
    finally:
        os.umask(old)
        os.close(directory)
    listener.listen(4)
    return listener


class Control:
    """on_packet(bytes, fds): a request came; on_connect: a new engine is there; on_lost: the engine is
    gone.
    """

    def __init__(
        self,
        poller: Poller,
        *,
        on_packet: Callable[[bytes, Sequence[int]], None],
        on_connect: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.poller = poller
        self.on_packet = on_packet
        self.on_connect = on_connect
        self.on_lost = on_lost
        self.channel: socket.socket | None = None
        self.listener: socket.socket | None = None
        self.unsent: deque[bytes] = deque()

    def take(self, channel: socket.socket) -> None:
        """Serve this channel from now on."""
        self._drop()
        channel.setblocking(False)
        self.channel = channel
        self.poller.watch(channel.fileno(), READ, self._on_channel)

    def listen(self, listener: socket.socket) -> None:
        """Serve whoever connects there, the newest alone."""
        self.listener = listener
        self.poller.watch(listener.fileno(), READ, self._on_listener)

    def say(self, message: Message) -> None:
        """Send to the engine, if there is one."""
        if self.channel is None:
            return
        if not self.unsent and self._send(encode(message)):
            return
        if self.channel is not None:
            self.unsent.append(encode(message))
            self.poller.watch(self.channel.fileno(), READ | WRITE, self._on_channel)

    def _send(self, packet: bytes) -> bool:
        if self.channel is None:
            return False
        try:
            self.channel.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            self._drop()
            self.on_lost()
            return False
        return True

    def _on_channel(self, events: int) -> None:
        if events & WRITE and self.channel is not None:
            while self.unsent and self._send(self.unsent[0]):
                self.unsent.popleft()
            if self.channel is not None and not self.unsent:
                self.poller.watch(self.channel.fileno(), READ, self._on_channel)
        if not events & (READ | GONE) or self.channel is None:
            return
        try:
            packet, riders = fds.recv_packet(self.channel, MAX_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet, riders = b"", []
        if packet:
            self.on_packet(packet, riders)
        else:
            fds.close_all(riders)
            self._drop()
            self.on_lost()

    def _on_listener(self, events: int) -> None:
        if self.listener is None:
            return
        try:
            channel, _ = self.listener.accept()
        except OSError:
            return  # it changed its mind
        peer = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, uid, _ = struct.unpack("3i", peer)
        if uid != os.geteuid():
            channel.close()
            return
        self.take(channel)
        self.on_connect()

    def close(self) -> None:
        """Serve nobody any more."""
        self._drop()
        if self.listener is not None:
            self.poller.forget(self.listener.fileno())
            self.listener.close()
            self.listener = None

    def _drop(self) -> None:
        if self.channel is not None:
            self.poller.forget(self.channel.fileno())
            self.channel.close()
            self.channel = None
        self.unsent.clear()
