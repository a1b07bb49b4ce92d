"""What every Runtime keeps. Subclass RuntimeContract and give the fixtures `runtime` and `make`.

make(*args, terminal=False, stdin=False) → (Bundle, rootfs mounts, Stdio). Commands are those of busybox which
FakeRuntime knows as well: true, false, `sleep N`, cat, `echo …`, `sh -c 'exit N'`, and any missing name.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from skiff.engine.execution.runtime import AttachRequest, Bundle, EndedEarly, Runtime, Stdio, Task, TaskExit
from skiff.errors import CannotRun, Conflict, NotFound
from skiff.oci.runtime import Mount, Process

Make = Callable[..., tuple[Bundle, Sequence[Mount], Stdio]]
PATH = ("PATH=/bin",)


def frame(stream: int, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


async def read_all(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    parts = []
    while data := await asyncio.wait_for(loop.sock_recv(sock, 1 << 16), 10):
        parts.append(data)
    return b"".join(parts)


class RuntimeContract:
    @asynccontextmanager
    async def running(self, runtime: Runtime, make: Make, *args: str, **how: bool) -> AsyncIterator[Task]:
        task = await runtime.create(*make(*args, **how))
        await task.start()
        yield task
        try:
            await task.delete(force=True)
        except NotFound:
            pass

    async def told(self, runtime: Runtime) -> TaskExit:
        return await asyncio.wait_for(anext(runtime.exits()), 10)

    async def test_a_task_runs_and_its_exit_is_told(self, runtime: Runtime, make: Make) -> None:
        task = await runtime.create(*make("sh", "-c", "exit 7"))
        assert task.pid > 0
        await task.start()
        ended = await asyncio.wait_for(task.wait(), 10)
        assert (ended.id, ended.code, ended.signal) == (task.id, 7, 0)
        assert ended.started <= ended.finished
        assert await self.told(runtime) == ended
        await task.delete()
        with pytest.raises(NotFound):
            await task.signal(9)

    async def test_a_signal_ends_it(self, runtime: Runtime, make: Make) -> None:
        async with self.running(runtime, make, "sleep", "60") as task:
            await task.signal(9)
            ended = await asyncio.wait_for(task.wait(), 10)
            assert (ended.code, ended.signal) == (137, 9)
            with pytest.raises(Conflict):
                await task.signal(9)

    async def test_one_that_ends_before_its_start_answers_and_is_not_told(
        self, runtime: Runtime, make: Make
    ) -> None:
        task = await runtime.create(*make("sleep", "60"))
        await task.signal(9)
        ended = await asyncio.wait_for(task.wait(), 10)
        assert (ended.code, ended.signal) == (137, 9)
        with pytest.raises(EndedEarly, match="cannot start a stopped process") as info:
            await task.start()
        assert info.value.exit_code == 137
        await task.delete()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(runtime.exits()), 0.05)

    async def test_a_missing_command_is_127_and_not_told(self, runtime: Runtime, make: Make) -> None:
        task = await runtime.create(*make("no-such-command"))
        with pytest.raises(
            CannotRun, match=r'exec: "no-such-command": executable file not found in \$PATH'
        ) as info:
            await task.start()
        assert info.value.exit_code == 127
        assert (await asyncio.wait_for(task.wait(), 10)).code == 127
        await task.delete()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(runtime.exits()), 0.05)

    async def test_output_comes_framed(self, runtime: Runtime, make: Make) -> None:
        task = await runtime.create(*make("echo", "hello"))
        ours, theirs = socket.socketpair()
        with ours:
            await task.attach(theirs, AttachRequest())
            await task.start()
            assert await read_all(ours) == frame(1, b"hello\n")
        await task.wait()
        await task.delete()

    async def test_input_goes_in_and_ends(self, runtime: Runtime, make: Make) -> None:
        task = await runtime.create(*make("cat", stdin=True))
        ours, theirs = socket.socketpair()
        with ours:
            await task.attach(theirs, AttachRequest(stdin=True, framed=False, early=b"early "))
            await task.start()
            ours.sendall(b"late")
            ours.shutdown(socket.SHUT_WR)
            assert await read_all(ours) == b"early late"
        assert (await asyncio.wait_for(task.wait(), 10)).code == 0
        await task.delete()

    async def test_exec_has_its_own_code_and_streams(self, runtime: Runtime, make: Make) -> None:
        async with self.running(runtime, make, "sleep", "60") as task:
            ours, theirs = socket.socketpair()
            with ours:
                process = await task.exec(
                    "e1", Process(args=("echo", "hi"), env=PATH), Stdio(), stream=theirs
                )
                assert process.pid > 0
                assert await read_all(ours) == frame(1, b"hi\n")
            assert await asyncio.wait_for(process.wait(), 10) == 0
            second = await task.exec("e2", Process(args=("sh", "-c", "exit 3"), env=PATH), Stdio())
            assert await asyncio.wait_for(second.wait(), 10) == 3
            with pytest.raises(CannotRun) as info:
                await task.exec("e3", Process(args=("no-such-command",), env=PATH), Stdio())
            assert info.value.exit_code == 127
            third = await task.exec("e4", Process(args=("sleep", "60"), env=PATH), Stdio())
            await third.signal(15)
            assert await asyncio.wait_for(third.wait(), 10) == 143

    async def test_freeze_and_thaw(self, runtime: Runtime, make: Make) -> None:
        async with self.running(runtime, make, "sleep", "60") as task:
            await task.freeze()
            await task.thaw()
            assert task.pid in await task.processes()

    async def test_delete_refuses_a_running_task(self, runtime: Runtime, make: Make) -> None:
        async with self.running(runtime, make, "sleep", "60") as task:
            with pytest.raises(Conflict):
                await task.delete()
            await task.delete(force=True)
            assert await runtime.load(task.id) is None

    async def test_load_gives_the_task(self, runtime: Runtime, make: Make) -> None:
        async with self.running(runtime, make, "sleep", "60") as task:
            found = await runtime.load(task.id)
            assert found is not None
            assert (found.id, found.pid) == (task.id, task.pid)
        assert await runtime.load("no-such-task") is None
