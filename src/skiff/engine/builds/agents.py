"""RUN --mount=type=ssh: a socket in the step, behind which the client's ssh agent is.

Each connection to it asks the client for one of its own (builds/handing.py); bytes are carried between them.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from skiff.engine.builds.plan import ExecMount
from skiff.errors import SkiffError

Agent = Callable[[str], Awaitable[socket.socket]]
"""A connection to the client's agent of that id."""

_PIECE = 1 << 16


@asynccontextmanager
async def listening(mount: ExecMount, path: str, agent: Agent) -> AsyncIterator[None]:
    """A unix socket at path, for as long as the step runs."""
    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _carried(reader, writer, await agent(mount.id or "default"))
        except (OSError, SkiffError):
            return  # the program in the step sees its connection end; the agent is gone or refused
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a task of our own: Python 3.11 reports one of the server's that is cancelled as an error
        task = asyncio.ensure_future(carry(reader, writer))
        carrying.add(task)
        task.add_done_callback(carrying.discard)

    server = await asyncio.start_unix_server(connected, path)
    try:
        os.chown(path, mount.uid, mount.gid)
        os.chmod(path, 0o600 if mount.mode is None else mount.mode)
        yield
    finally:
        server.close()
        for task in tuple(carrying):
            task.cancel()
        if carrying:
            await asyncio.wait(carrying)
        with suppress(FileNotFoundError):
            os.unlink(path)


async def _carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: socket.socket) -> None:
    """Both ways, until both have ended."""
    client.setblocking(False)
    ours, theirs = await asyncio.open_connection(sock=client)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass(reader, theirs))
            group.create_task(_pass(ours, writer))
    except* (OSError, RuntimeError):
        pass  # one of the two has hung up: what is left to say nobody hears
    finally:
        theirs.close()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_PIECE):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
