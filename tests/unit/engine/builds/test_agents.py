"""RUN --mount=type=ssh: connections that the end of a step cuts off."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from skiff.engine.builds.agents import listening
from skiff.engine.builds.plan import ExecMount


def test_a_connection_that_the_step_leaves_open_ends_without_complaint(tmp_path: Path) -> None:
    complaints: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        ours, client = socket.socketpair()

        async def agent(id: str) -> socket.socket:
            return client

        path = f"{tmp_path}/agent"
        with ours:
            ours.setblocking(False)
            async with listening(ExecMount(kind="ssh", target="/agent"), path, agent):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"question")
                assert await asyncio.get_running_loop().sock_recv(ours, 100) == b"question"
            assert await reader.read() == b""
            writer.close()

    asyncio.run(story())
    assert complaints == []
