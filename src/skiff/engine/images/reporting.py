"""Work that reports while it goes on, as a stream of events: what a client's progress is made of."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from skiff.engine.images.progress import Progress

Emit = Callable[[Progress], None]


async def reported(work: Callable[[Emit], Awaitable[None]]) -> AsyncGenerator[Progress, None]:
    """The events that work emits, then its error if it fails. A reader who leaves cancels it."""
    events: asyncio.Queue[Progress | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await work(events.put_nowait)
        finally:
            events.put_nowait(None)

    task = asyncio.ensure_future(run())
    try:
        while (event := await events.get()) is not None:
            yield event
        await task
    finally:
        if not task.done():
            task.cancel()
        await asyncio.wait({task})
