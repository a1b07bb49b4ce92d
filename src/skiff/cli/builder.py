"""skiff builder prune."""

from __future__ import annotations

from skiff.cli import human
from skiff.cli.filters import FORCE, KINDS, agreed, wire
from skiff.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session


def prune(session: Session, asked: Parsed) -> int:
    what = "all build cache" if asked["all"] else "all dangling build cache"
    warning = f"WARNING! This will remove {what}."
    if not asked["force"] and not agreed(session, warning):
        return 0
    reply = session.engine().prune_build_cache(
        all=asked["all"] or None,
        filters=wire(asked["filter"]) or None,
        **{"keep-storage": asked["keep-storage"] or None},
    )
    gone = reply.get("CachesDeleted")
    if gone:
        print("Deleted build cache objects:")
        print("\n".join(gone) + "\n")
    print(f"Total reclaimed space: {human.size(reply.get('SpaceReclaimed') or 0)}")
    return 0


COMMANDS = {
    "builder prune": Command(
        "",
        "Remove build cache",
        prune,
        (
            ("all", "a", "bool", False, "Remove all unused build cache, not just dangling ones"),
            ("filter", "", "filter", (), 'Provide filter values (e.g. "until=24h")'),
            FORCE,
            ("keep-storage", "", "bytes", 0, "Amount of disk space to keep for cache"),
        ),
        most=0,
        kinds=KINDS,
    ),
}
