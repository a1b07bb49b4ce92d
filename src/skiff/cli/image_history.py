"""skiff history: the steps that an image was made of."""

from __future__ import annotations

import sys
import time

from skiff.cli import human
from skiff.cli.flags import Command
from skiff.cli.image import ONE_PLATFORM, wanted_platform
from skiff.cli.table import FORMAT, Listing, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]


def history(session: Session, asked: Parsed) -> int:
    steps = session.engine().image_history(asked.args[0], platform=wanted_platform(asked))
    listing = history_listing(human_readable=asked["human"], truncate=not asked["no-trunc"], now=time.time())
    sys.stdout.write(render(listing, steps, form=asked["format"], quiet=asked["quiet"]))
    return 0


def history_listing(*, human_readable: bool, truncate: bool, now: float) -> Listing:
    def id(step: Json) -> str:
        return human.short_id(step["Id"]) if truncate and step["Id"] != "<missing>" else str(step["Id"])

    def created_by(step: Json) -> str:
        text = step["CreatedBy"].replace("\t", " ")
        return human.ellipsis(text, 45) if truncate else text

    def created(step: Json) -> str:
        if not human_readable:
            return human.local_rfc3339(step["Created"])
        return human.ago(step["Created"], now) if step["Created"] > 0 else "N/A"

    fields = {
        "ID": ("IMAGE", id),
        "CreatedAt": ("CREATED AT", lambda s: human.local_rfc3339(s["Created"])),
        "CreatedSince": ("CREATED" if human_readable else "CREATED AT", created),
        "CreatedBy": ("CREATED BY", created_by),
        "Size": ("SIZE", lambda s: human.size(s["Size"], 3) if human_readable else str(s["Size"])),
        "Comment": ("COMMENT", lambda s: s["Comment"]),
    }
    columns = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
    return Listing("*image.historyContext", fields, columns)


COMMANDS = {
    "history": Command(
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        history,
        (
            FORMAT,
            ("human", "H", "bool", True, "Print sizes and dates in human readable format"),
            ("no-trunc", "", "bool", False, "Don't truncate output"),
            ("platform", "", "string", "", ONE_PLATFORM.format("Show history for", "platform")),
            ("quiet", "q", "bool", False, "Only show image IDs"),
        ),
        least=1,
        most=1,
        aliases=("image history", "history"),
    ),
}
