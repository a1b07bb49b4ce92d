"""skiff system check: what no record leads to, and records whose files are gone; and mending both.

It reads across the nouns. A problem is found by comparing two lists and mended by the one act named with it;
the rule: nothing that a record leads to is touched, and no record is deleted that has files.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from skiff.engine.system.garbage import Garbage


class Problem(Struct, frozen=True, rename="pascal"):
    """kind: of thing. what: which one. cure: what mending does."""

    kind: str
    what: str
    cure: str


class Finding(Struct, frozen=True):
    """A problem with its cure; without one it is only told."""

    problem: Problem
    cure: Callable[[], object] | None = None


Examine = Callable[[], Iterable[Finding]]


class Check:
    """examinations: each looks at one thing, in a thread."""

    def __init__(self, garbage: Garbage, examinations: Sequence[Examine]) -> None:
        self._garbage = garbage
        self._examinations = examinations

    async def look(self) -> dict[str, Any]:
        """{"Problems": […]}; nothing is changed."""
        found = await asyncio.to_thread(self._found)
        return {"Problems": [finding.problem for finding in found]}

    async def mend(self) -> dict[str, Any]:
        """{"Problems", "Mended", "SpaceReclaimed"}: what was found, and how many of those were cured."""
        found = await asyncio.to_thread(self._found)
        mended = 0
        for finding in found:
            if finding.cure is not None:
                finding.cure()
                mended += 1
        swept = await asyncio.to_thread(self._garbage.collect)
        return {
            "Problems": [finding.problem for finding in found],
            "Mended": mended + len(swept.blobs) + len(swept.snapshots),
            "SpaceReclaimed": swept.bytes,
        }

    def _found(self) -> list[Finding]:
        blobs, snapshots = self._garbage.unreachable()
        found = [Finding(Problem("blob", one, "delete: nothing leads to it")) for one in blobs]
        found += [Finding(Problem("snapshot", one, "delete: nothing leads to it")) for one in snapshots]
        for examine in self._examinations:
            found += examine()
        return found
