"""Descriptors: what sockets say of themselves."""

import socket

from skiff.linux.fds import unread


def test_what_was_sent_and_not_taken_is_known() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unread(ours.fileno()) == 0
        ours.sendall(b"abc")
        assert unread(ours.fileno()) > 0
        theirs.recv(3)
        assert unread(ours.fileno()) == 0
