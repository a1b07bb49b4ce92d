"""skiff builder prune; skiff builder cache: the cache mounts of RUN, listed, carried out and in, removed."""

from __future__ import annotations

from skiff.cli import human
from skiff.cli.buildx import known_builder
from skiff.cli.filters import DRY_RUN, FORCE, KINDS, agreed, wire
from skiff.cli.flags import Command
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session


KEPT = ("keep-storage", "max-used-space", "min-free-space", "reserved-space")


def prune(session: Session, asked: Parsed) -> int:
    known_builder(asked)
    what = "all build cache" if asked["all"] else "all dangling build cache"
    warning = f"WARNING! This will remove {what}."
    dry = asked["dry-run"]
    if not dry and not asked["force"] and not agreed(session, warning):
        return 0
    reply = session.engine().prune_build_cache(
        dry=dry,
        all=asked["all"] or None,
        filters=wire(asked["filter"]) or None,
        **{name: asked[name] or None for name in KEPT},
    )
    gone = reply.get("CachesDeleted")
    if gone:
        print("Would delete build cache objects:" if dry else "Deleted build cache objects:")
        print("\n".join(gone) + "\n")
    word = "reclaimable" if dry else "reclaimed"
    print(f"Total {word} space: {human.size(reply.get('SpaceReclaimed') or 0)}")
    return 0


def cache(session: Session, asked: Parsed) -> int:
    """`ls`, `rm ID…`, `export ID`, `import ID`."""
    action, ids = asked.args[0], asked.args[1:]
    engine = session.engine()
    if action == "ls" and not ids:
        rows = engine.get("/skiff/build/caches")
        if asked["quiet"]:
            print("".join(f"{row['Mount']}\n" for row in rows), end="")
            return 0
        width = max([len("CACHE MOUNT"), *(len(row["Mount"]) for row in rows)])
        print(f"{'CACHE MOUNT':{width}}   SIZE      LAST USED              IN USE")
        for row in rows:
            used = row["LastUsedAt"][:19].replace("T", " ")
            print(
                f"{row['Mount']:{width}}   {human.size(row['Size']):9} {used}    {str(row['InUse']).lower()}"
            )
        return 0
    if action == "rm" and ids:
        freed = sum(engine.delete("/skiff/build/caches", id=id)["SpaceReclaimed"] for id in ids)
        print(f"Total reclaimed space: {human.size(freed)}")
        return 0
    if action == "export" and len(ids) == 1:
        return _export(session, ids[0], asked["output"])
    if action == "import" and len(ids) == 1:
        return _import(session, ids[0], asked["input"])
    raise InvalidParameter("skiff builder cache: expected ls, rm ID…, export ID or import ID")


def _export(session: Session, id: str, path: str) -> int:
    import sys

    if not path and sys.stdout.isatty():
        raise InvalidParameter("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    chunks = (
        session.engine().connection.request("GET", "/skiff/build/caches/content", query={"id": id}).chunks()
    )
    if not path:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return 0
    with open(path, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
    return 0


def _import(session: Session, id: str, path: str) -> int:
    import sys
    from functools import partial

    source = open(path, "rb") if path else sys.stdin.buffer
    with source:
        pieces = iter(partial(source.read, 1 << 18), b"")
        query = {"id": id}
        session.engine().connection.request(
            "PUT", "/skiff/build/caches/content", query=query, body=pieces
        ).read()
    return 0


COMMANDS = {
    "builder prune": Command(
        "",
        "Remove build cache",
        prune,
        (
            ("all", "a", "bool", False, "Include internal/frontend images"),
            ("builder", "", "string", "default", "Override the configured builder instance"),
            ("filter", "", "filter", (), "Provide filter values"),
            FORCE,
            DRY_RUN,
            ("max-used-space", "", "bytes", 0, "Maximum amount of disk space allowed to keep for cache"),
            ("min-free-space", "", "bytes", 0, "Target amount of free disk space after pruning"),
            ("reserved-space", "", "bytes", 0, "Amount of disk space always allowed to keep for cache"),
            ("keep-storage", "", "bytes", 0, "Amount of disk space to keep for cache"),
        ),
        most=0,
        kinds=KINDS,
        aliases=("builder prune", "buildx prune"),
    ),
    "builder cache": Command(
        "ls | rm ID... | export ID | import ID",
        "Manage the cache mounts of builds",
        cache,
        (
            ("input", "i", "string", "", "Read the tar from a file, instead of STDIN"),
            ("output", "o", "string", "", "Write the tar to a file, instead of STDOUT"),
            ("quiet", "q", "bool", False, "Only show the names"),
        ),
        least=1,
    ),
}
