"""skiff snapshot, fork, rollback; volume snapshot, clone, rollback."""

from __future__ import annotations

from skiff.cli.each import each
from skiff.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session


def snapshot(session: Session, asked: Parsed) -> int:
    session.engine().snapshot("containers", asked.args[0], asked.args[1])
    print(asked.args[1])
    return 0


def fork(session: Session, asked: Parsed) -> int:
    print(session.engine().fork(asked.args[0], asked.args[1])["Id"])
    return 0


def rollback(session: Session, asked: Parsed) -> int:
    return _rolled_back(session, "containers", asked)


def ls(session: Session, asked: Parsed) -> int:
    return _listed(session, "containers", asked)


def rm(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    thing, *names = asked.args
    return each(session, names, lambda name: engine.remove_snapshot("containers", thing, name))


def volume_snapshot(session: Session, asked: Parsed) -> int:
    session.engine().snapshot("volumes", asked.args[0], asked.args[1])
    print(asked.args[1])
    return 0


def volume_clone(session: Session, asked: Parsed) -> int:
    print(session.engine().clone_volume(asked.args[0], asked.args[1])["Name"])
    return 0


def volume_rollback(session: Session, asked: Parsed) -> int:
    return _rolled_back(session, "volumes", asked)


def volume_ls(session: Session, asked: Parsed) -> int:
    return _listed(session, "volumes", asked)


def volume_rm(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    thing, *names = asked.args
    return each(session, names, lambda name: engine.remove_snapshot("volumes", thing, name))


def _rolled_back(session: Session, kind: str, asked: Parsed) -> int:
    saved = session.engine().rollback(kind, asked.args[0], asked.args[1])["Saved"]
    session.err(f"What was there is the snapshot {saved} now.")
    print(asked.args[0])
    return 0


def _listed(session: Session, kind: str, asked: Parsed) -> int:
    for one in session.engine().snapshots(kind, asked.args[0]):
        print(one["Name"])
    return 0


COMMANDS = {
    "snapshot": Command(
        "CONTAINER NAME", "Keep a container's files as they are now", snapshot, least=2, most=2
    ),
    "snapshot ls": Command("CONTAINER", "List the snapshots of a container", ls, least=1, most=1),
    "snapshot rm": Command("CONTAINER NAME [NAME...]", "Remove snapshots of a container", rm, least=2),
    "fork": Command("CONTAINER NEW", "Make a second container with the same files", fork, least=2, most=2),
    "rollback": Command("CONTAINER NAME", "Put a container's files back", rollback, least=2, most=2),
    "volume snapshot": Command(
        "VOLUME NAME", "Keep a volume's content as it is now", volume_snapshot, least=2, most=2
    ),
    "volume snapshots": Command("VOLUME", "List the snapshots of a volume", volume_ls, least=1, most=1),
    "volume unsnapshot": Command("VOLUME NAME [NAME...]", "Remove snapshots of a volume", volume_rm, least=2),
    "volume clone": Command(
        "VOLUME NEW", "Make a second volume with the same content", volume_clone, least=2, most=2
    ),
    "volume rollback": Command(
        "VOLUME NAME", "Put a volume's content back", volume_rollback, least=2, most=2
    ),
}
