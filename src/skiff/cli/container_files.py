"""skiff cp, diff and export: a container's files."""

from __future__ import annotations

import sys

from skiff.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

KINDS_OF_CHANGE = "CAD"  # the wire says 0, 1, 2


def diff(session: Session, asked: Parsed) -> int:
    changes = session.engine().container_changes(asked.args[0])
    sys.stdout.write("".join([f"{KINDS_OF_CHANGE[one['Kind']]} {one['Path']}\n" for one in changes]))
    return 0


def export(session: Session, asked: Parsed) -> int:
    from skiff.cli.image_archive import write_stream

    chunks = session.engine().export_container(asked.args[0]).chunks()
    write_stream(chunks, asked["output"], "failed to export container", doing="Exporting")
    return 0


def cp(session: Session, asked: Parsed) -> int:
    from skiff.cli.copying import copy

    return copy(session, asked)


COMMANDS = {
    "cp": Command(
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tskiff cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem\n\n"
        "Use '-' as the source to read a tar archive from stdin\n"
        "and extract it to a directory destination in a container.\n"
        "Use '-' as the destination to stream a tar archive of a\n"
        "container source to stdout.",
        cp,
        (
            ("archive", "a", "bool", False, "Archive mode (copy all uid/gid information)"),
            ("follow-link", "L", "bool", False, "Always follow symbol link in SRC_PATH"),
            (
                "quiet",
                "q",
                "bool",
                False,
                "Suppress progress output during copy. Progress output is automatically suppressed if no "
                "terminal is attached",
            ),
        ),
        least=2,
        most=2,
        aliases=("container cp", "cp"),
    ),
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
