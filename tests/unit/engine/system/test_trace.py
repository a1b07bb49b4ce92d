"""Traces: what requests under one name did, and the exits that belong to them."""

import asyncio
import os
from pathlib import Path

import pytest

from skiff.engine.system.trace import KEPT, Traces
from skiff.errors import InvalidParameter, NotFound
from skiff.linux import watching

NAME = "00112233aabbccdd"


def titles(traces: Traces, name: str = NAME) -> list[tuple[int, str]]:
    return [(step.depth, step.title) for step in traces.take(name).steps]


def test_what_requests_of_one_name_did(tmp_path: Path) -> None:
    traces, mkdir = Traces(), os.mkdir
    with traces.request(NAME, "POST /one"):
        os.mkdir(f"{tmp_path}/a")
    assert os.mkdir is mkdir
    os.mkdir(f"{tmp_path}/untold")
    with traces.request(NAME, "POST /two"):
        os.mkdir(f"{tmp_path}/b")
    assert titles(traces) == [
        (0, "POST /one"),
        (1, f"directory {tmp_path}/a"),
        (0, "POST /two"),
        (1, f"directory {tmp_path}/b"),
    ]
    with pytest.raises(NotFound):
        traces.take(NAME)


async def test_requests_side_by_side_are_kept_apart(tmp_path: Path) -> None:
    traces, mkdir = Traces(), os.mkdir
    other = NAME[::-1]

    async def act(name: str, folder: str) -> None:
        with traces.request(name, "POST /x"):
            await asyncio.sleep(0.01)
            await asyncio.to_thread(os.mkdir, f"{tmp_path}/{folder}")
            await asyncio.sleep(0.01)

    async def nobody() -> None:
        await asyncio.sleep(0.01)
        os.mkdir(f"{tmp_path}/untold")

    await asyncio.gather(act(NAME, "a"), act(other, "b"), nobody())
    assert os.mkdir is mkdir
    assert titles(traces) == [(0, "POST /x"), (1, f"directory {tmp_path}/a")]
    assert titles(traces, other) == [(0, "POST /x"), (1, f"directory {tmp_path}/b")]


def test_the_exit_of_what_it_started_belongs_to_it(tmp_path: Path) -> None:
    traces = Traces()
    with traces.request(NAME, "POST /start"):
        current = watching.recorder.get()
        assert current is not None
        current.followed.add("box")
    with traces.ending("another"):
        os.mkdir(f"{tmp_path}/untold")
    with traces.ending("box"):
        os.mkdir(f"{tmp_path}/a")
    assert titles(traces) == [
        (0, "POST /start"),
        (0, "what follows the exit of box"),
        (1, f"directory {tmp_path}/a"),
    ]
    with traces.ending("box"):  # the trace was fetched
        pass


def test_a_request_that_fails_is_recorded_and_nothing_stays_watched() -> None:
    traces, mkdir = Traces(), os.mkdir
    with pytest.raises(ValueError), traces.request(NAME, "POST /x"):
        raise ValueError
    assert os.mkdir is mkdir
    assert titles(traces) == [(0, "POST /x")]


@pytest.mark.parametrize("name", ["", "short", "../../etc/passwd", "G" * 16, "a" * 65])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidParameter), Traces().request(name, "x"):
        pass


def test_traces_that_nobody_fetches_are_forgotten() -> None:
    traces = Traces()
    for number in range(KEPT + 1):
        with traces.request(f"{number:016x}", "x"):
            pass
    with pytest.raises(NotFound):
        traces.take(f"{0:016x}")
    assert titles(traces, f"{KEPT:016x}") == [(0, "x")]
