"""skiff diff and export: what a container's files became."""

from __future__ import annotations

from skiff.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

KINDS_OF_CHANGE = "CAD"  # the wire says 0, 1, 2


def diff(session: Session, asked: Parsed) -> int:
    for change in session.engine().container_changes(asked.args[0]):
        print(KINDS_OF_CHANGE[change["Kind"]], change["Path"])
    return 0


def export(session: Session, asked: Parsed) -> int:
    from skiff.cli.image import write_stream

    chunks = session.engine().export_container(asked.args[0]).chunks()
    write_stream(chunks, asked["output"], "failed to export container")
    return 0


COMMANDS = {
    "diff": Command(
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        diff,
        least=1,
        most=1,
        aliases=("container diff", "diff"),
    ),
    "export": Command(
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        export,
        (("output", "o", "string", "", "Write to a file, instead of STDOUT"),),
        least=1,
        most=1,
        aliases=("container export", "export"),
    ),
}
