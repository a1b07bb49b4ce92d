"""Blocking work in a thread that is never left behind."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def finished(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result of blocking work in a thread. When cancelled, it waits for the thread all the same.

    A thread cannot be stopped, and what it works on must not be taken away under it.
    """
    future = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise
