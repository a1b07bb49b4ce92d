"""system dial-stdio: stdin and stdout become a connection to the engine. ssh runs it on the other side."""

from __future__ import annotations

import _socket
import _thread
import posix

from skiff.cli.flags import Command
from skiff.client.endpoint import dial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session
    from skiff.client.connection import Socket

PIECE = 256 * 1024


def dial_stdio(session: Session, asked: Parsed) -> int:
    """Until the engine ends the connection."""
    session.engine().ping()  # starts one, where one is started on demand
    engine = dial(session.endpoint())
    _thread.start_new_thread(_questions, (engine,))
    try:
        while data := engine.recv(PIECE):
            rest = memoryview(data)
            while rest:
                rest = rest[posix.write(1, rest) :]
    except OSError:
        pass  # one of the two sides has gone
    return 0


def _questions(engine: Socket) -> None:
    try:
        while data := posix.read(0, PIECE):
            engine.sendall(data)
        engine.shutdown(_socket.SHUT_WR)
    except OSError:
        pass  # the engine has hung up: what it said before is still on its way out


COMMANDS = {
    "system dial-stdio": Command(
        "", "Join stdin and stdout to the engine: what ssh runs on the other side", dial_stdio, most=0
    ),
}
