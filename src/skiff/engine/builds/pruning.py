"""How much builds keep: steps, contexts and cache mounts; pruned on demand, and down to a budget by itself.

The budget is daemon.json's `builder.gc.defaultKeepStorage`, else a tenth of the disk. Contexts and cache
mounts go before steps, of each what was used longest ago first.
"""

import os
import shutil
from typing import Any

from msgspec import Struct

from skiff.docker.filters import Filters
from skiff.engine.builds import cache_mounts, kept
from skiff.engine.builds.cache import PRUNE_FILTERS, Cache
from skiff.engine.builds.cache_mounts import CacheMounts
from skiff.engine.builds.kept import Trees
from skiff.errors import Conflict

_SHARE = 10  # of the disk: one tenth
_EITHER_WAY = ("type", "until", "unused-for")  # the filters that contexts and cache mounts understand


class Budget(Struct, frozen=True):
    """keep_bytes: None: a tenth of the disk. is_kept: whether it is kept without being asked."""

    is_kept: bool = True
    keep_bytes: int | None = None


class Pruning:
    """directory: on the disk that the budget is a part of."""

    def __init__(
        self, cache: Cache, trees: Trees, mounts: CacheMounts, budget: Budget, directory: str
    ) -> None:
        self._cache = cache
        self._trees = trees
        self._mounts = mounts
        self._budget = budget
        self._directory = directory

    def usage(self) -> list[dict[str, Any]]:
        """Engine API, BuildCache."""
        return [*self._cache.usage(), *self._trees.usage(), *self._mounts.usage()]

    def prune(
        self,
        filters: Filters | None = None,
        *,
        everything: bool = False,
        keep_bytes: int = 0,
        dry_run: bool = False,
    ) -> tuple[list[str], int]:
        """Ids of what is gone, and the bytes that came free. Blocking.

        Without everything, cache mounts stay, and steps that images share. keep_bytes: stop once the rest
        takes no more. dry_run: only tell what would go.
        """
        wanted = filters or Filters()
        gone: list[str] = []
        freed = 0
        others = self._others(wanted, everything=everything)
        total = self._total()
        for _, kind, name in sorted(others):
            if keep_bytes and total - freed <= keep_bytes:
                break
            try:
                size = self._drop(kind, name, dry_run=dry_run)
            except Conflict:  # a build has begun to use it
                continue
            freed += size
            gone.append(name[:25])
        others_left = total - freed - self._cache.size()
        steps, bytes_of_steps = self._cache.prune(
            wanted,
            everything=everything,
            keep_bytes=max(1, keep_bytes - others_left) if keep_bytes else 0,
            dry_run=dry_run,
        )
        return [*gone, *steps], freed + bytes_of_steps

    def _drop(self, kind: str, name: str, *, dry_run: bool) -> int:
        """A context or a cache mount; its bytes. Conflict when it is in use."""
        if kind == kept.KIND:
            return self._trees.rows()[name].size if dry_run else self._trees.drop(name)
        return self._mounts.spare(name) if dry_run else self._mounts.drop(name)

    def keep(self) -> tuple[list[str], int]:
        """Down to the budget, if that is wished and exceeded. Blocking."""
        limit = self._budget.keep_bytes
        if limit is None:
            limit = shutil.disk_usage(os.path.dirname(self._directory)).total // _SHARE
        if not self._budget.is_kept or self._total() <= limit:
            return [], 0
        return self.prune(everything=True, keep_bytes=max(1, limit))

    def _total(self) -> int:
        others = [*self._trees.usage(), *self._mounts.usage()]
        return self._cache.size() + sum(int(one["Size"]) for one in others)

    def _others(self, wanted: Filters, *, everything: bool) -> list[tuple[int, str, str]]:
        """(last use, kind, name) of contexts, and of cache mounts when everything is to go."""
        if any(name in wanted for name in PRUNE_FILTERS if name not in _EITHER_WAY):
            return []
        before = self._cache.limits(wanted)
        found = [(row.used_ns, kept.KIND, token) for token, row in self._trees.rows().items()]
        if everything:
            found += [(row.used_ns, cache_mounts.KIND, name) for name, row in self._mounts.rows().items()]
        return [
            one
            for one in found
            if wanted.exact("type", one[1]) and not any(one[0] > limit for limit in before)
        ]
