"""skiff egress log: what a container was allowed and refused on its way out."""

from __future__ import annotations

import sys

from skiff.cli import human
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT, Listing, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session


def log(session: Session, asked: Parsed) -> int:
    found = session.engine().egress(asked.args[0])
    sys.stdout.write(render(listing(), found["Entries"], form=asked["format"]))
    return 0


def listing() -> Listing:
    fields = {
        "Last": ("LAST", lambda e: human.go_time(e["Last"])),
        "First": ("FIRST", lambda e: human.go_time(e["First"])),
        "Verdict": ("VERDICT", lambda e: e["Verdict"]),
        "Count": ("COUNT", lambda e: str(e["Count"])),
        "Destination": ("DESTINATION", lambda e: e["Destination"]),
    }
    return Listing("*egress", fields, ("Last", "Verdict", "Count", "Destination"))


COMMANDS = {
    "egress log": Command(
        "[OPTIONS] CONTAINER",
        "Show what a container was allowed and refused on its way out",
        log,
        (FORMAT,),
        least=1,
        most=1,
    ),
}
