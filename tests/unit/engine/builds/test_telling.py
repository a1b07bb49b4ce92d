"""What steps and builds say on its way to a client, who may be slow or deaf."""

import asyncio
from typing import Any

from skiff.engine.builds import solver
from skiff.engine.builds.narration import Telling
from skiff.engine.builds.solver import CLIPPED, LARGEST_LOG, Log

PIECE = "x" * (1 << 20)


async def fill(log: Log, pieces: int) -> None:
    for _ in range(pieces):
        await log.tell(PIECE)


def test_a_step_that_is_heard_waits_for_its_listener() -> None:
    async def story() -> None:
        log = Log()
        log.is_heard = True
        teller = asyncio.ensure_future(fill(log, 40))
        await asyncio.sleep(0.01)
        assert not teller.done()
        heard = 0
        while not teller.done() or heard < 40 * len(PIECE):
            taken = log.take()
            assert sum(map(len, taken)) <= LARGEST_LOG + 2 * len(PIECE)
            heard += sum(map(len, taken))
            await asyncio.sleep(0)
        assert heard == 40 * len(PIECE)

    asyncio.run(story())


def test_a_step_that_nobody_hears_yet_goes_on_and_keeps_its_beginning() -> None:
    async def story() -> None:
        log = Log()
        await asyncio.wait_for(fill(log, 40), 5)
        log.is_heard = True
        taken = log.take()
        assert sum(map(len, taken)) <= LARGEST_LOG + 2 * len(PIECE)
        assert taken[0] == PIECE
        assert taken.count(CLIPPED) == 1
        await log.tell("later")
        assert log.take() == ["later"]

    asyncio.run(story())


def test_a_slow_client_slows_down_what_it_is_told_of() -> None:
    async def story() -> None:
        telling = Telling()

        async def narrate() -> None:
            for number in range(2000):
                telling.emit({"n": number})
                await telling.room()
            telling.end()

        narrator = asyncio.ensure_future(narrate())
        await asyncio.sleep(0.01)
        assert not narrator.done()
        heard: list[Any] = [event["n"] async for events in telling for event in events]
        assert heard == list(range(2000))

    asyncio.run(story())


def test_what_waits_is_told_at_once() -> None:
    async def story() -> None:
        telling = Telling()
        for number in range(3):
            telling.emit({"n": number})
        heard = aiter(telling)
        assert await anext(heard) == [{"n": 0}, {"n": 1}, {"n": 2}]
        telling.emit({"n": 3})
        telling.end()
        assert [events async for events in heard] == [[{"n": 3}]]

    asyncio.run(story())


def test_the_bound_is_told_with_what_is_left_out() -> None:
    assert str(solver.LARGEST_LOG) in CLIPPED
