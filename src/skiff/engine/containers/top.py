"""The processes in a container, as ps shows them."""

import asyncio
import os
import shlex

from skiff.docker.container_view import TopResponse
from skiff.engine.containers import states
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.live import Live
from skiff.engine.containers.record import Records
from skiff.errors import InvalidParameter, SkiffError


class Top:
    def __init__(self, *, records: Records, live: Live, announce: Announcer) -> None:
        self.records = records
        self.live = live
        self.announce = announce

    async def top(self, text: str, ps_args: str = "-ef") -> TopResponse:
        """Conflict if it does not run; InvalidParameter for ps arguments without a pid column."""
        container = self.records.find(text)
        states.require_running(container.state, container.id)
        pids = {str(pid) for pid in await self.live.task(container.id).processes()}
        output = await _ps(ps_args or "-ef")
        found = table(output, pids)
        self.announce(container, "top")
        return found


async def _ps(arguments: str) -> str:
    try:
        words = shlex.split(arguments)
        process = await asyncio.create_subprocess_exec(
            "ps",
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if key != "COLUMNS"},  # rows come whole
        )
    except FileNotFoundError:
        raise SkiffError("Couldn't find PID field in ps output: ps is not installed on this host") from None
    except ValueError as error:
        raise InvalidParameter(f"ps: {error}") from None
    output, complaint = await process.communicate()
    if process.returncode:
        said = complaint.decode("utf-8", "replace").strip().partition("\n")[0]
        raise InvalidParameter(f"ps: {said}")
    return output.decode("utf-8", "replace")


def table(output: str, pids: set[str]) -> TopResponse:
    """The lines of ps for these pids. The last column keeps its blanks. InvalidParameter without PID."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidParameter("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column] in pids:
            rows.append(tuple(fields))
    return TopResponse(titles=tuple(titles), processes=tuple(rows))
