"""skiff undo, trash ls, trash restore, trash empty, system check."""

from __future__ import annotations

import sys
import time

from skiff.cli import human
from skiff.cli.filters import FORCE, agreed
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT, Listing, render
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]


def undo(session: Session, asked: Parsed) -> int:
    text = asked.args[0] if asked.args else "1"
    if not text.isdecimal() or not int(text):
        raise InvalidParameter(f"invalid count {text!r}: expected 1 or more")
    return _told(session.engine().undo(int(text)))


def restore(session: Session, asked: Parsed) -> int:
    if asked["name"] and len(asked.args) > 1:
        raise InvalidParameter("--name is for one thing: restore them one after the other")
    for text in asked.args:
        _told(session.engine().restore(text, name=asked["name"]))
    return 0


def _told(reply: Json) -> int:
    for one in reply["Restored"]:
        print(f"{one['Type']} {one['Name']}")
    return 0


def ls(session: Session, asked: Parsed) -> int:
    entries = session.engine().trash()["Entries"]
    sys.stdout.write(render(listing(time.time()), entries, form=asked["format"], quiet=asked["quiet"]))
    return 0


def listing(now: float) -> Listing:
    fields = {
        "ID": ("ID", lambda e: e["Id"]),
        "Type": ("TYPE", lambda e: e["Type"]),
        "Name": ("NAME", lambda e: e["Name"]),
        "Removed": ("REMOVED", lambda e: f"{human.ago(human.instant(e['Removed'])[0], now)}"),
        "Left": ("LEFT", lambda e: human.span(max(0.0, human.instant(e["Expires"])[0] - now))),
        "Size": ("SIZE", lambda e: human.size(e["Size"]) if e["Size"] >= 0 else "?"),
    }
    return Listing("*trash", fields, ("ID", "Type", "Name", "Removed", "Left", "Size"), quiet="ID")


def empty(session: Session, asked: Parsed) -> int:
    warning = "WARNING! This will delete everything in the trash for good."
    if not asked.args and not asked["force"] and not agreed(session, warning):
        return 0
    freed = 0
    for text in asked.args or [""]:
        reply = session.engine().empty_trash(text)
        freed += reply["SpaceReclaimed"]
        for line in reply["Deleted"]:
            print(f"Deleted: {line}")
    print(f"Total reclaimed space: {human.size(freed)}")
    return 0


def check(session: Session, asked: Parsed) -> int:
    reply = session.engine().check(mend=asked["mend"])
    for problem in reply["Problems"]:
        print(f"{problem['Kind']} {problem['What']}: {problem['Cure']}")
    if asked["mend"]:
        print(f"Mended: {reply['Mended']} of {len(reply['Problems'])}, {human.size(reply['SpaceReclaimed'])}")
        return 0
    if not reply["Problems"]:
        print("Nothing is wrong.")
        return 0
    session.err("Run 'skiff system check --mend' to mend what can be mended.")
    return 1


COMMANDS = {
    "undo": Command(
        "[COUNT]",
        "Bring back what was removed last",
        undo,
        most=1,
    ),
    "trash ls": Command(
        "[OPTIONS]",
        "List what was removed and can come back",
        ls,
        (FORMAT, ("quiet", "q", "bool", False, "Only display ids")),
        most=0,
        aliases=("trash ls", "trash list"),
    ),
    "trash restore": Command(
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Bring back something from the trash",
        restore,
        (("name", "", "string", "", "Under another name"),),
        least=1,
    ),
    "trash empty": Command(
        "[OPTIONS] [NAME|ID...]",
        "Delete what is in the trash for good",
        empty,
        (FORCE,),
    ),
    "system check": Command(
        "[OPTIONS]",
        "Find what crashes left behind",
        check,
        (("mend", "", "bool", False, "Delete or repair it"),),
        most=0,
    ),
}
