"""Who has the names that a completion asks for: the engine, config.json, the environment.

A tab is no place for a message: whoever does not answer has no names.
"""

from __future__ import annotations

from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from skiff.cli.completing import Candidate
    from skiff.cli.session import Session

    Json = dict[str, Any]

PREDEFINED = ("bridge", "host", "none")


class Names:
    """`ask` of completing.complete."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __call__(self, kind: str, typed: str) -> Iterable[Candidate]:
        """typed: the word so far; it only saves work. kind: `snapshots web` are those of web."""
        kind, _, of = kind.partition(" ")
        answer = _ANSWERS.get(kind)
        if answer is None:
            return []
        try:
            return list(answer(self.session, of or typed))
        except SkiffError:
            return []


def _containers(
    wanted: Callable[[str], bool], *, all: bool = True
) -> Callable[[Session, str], list[Candidate]]:
    def names(session: Session, typed: str) -> list[Candidate]:
        return [
            (name.removeprefix("/"), f"{found['Image']}, {found['Status']}")
            for found in session.engine().containers(all=all)
            if wanted(found["State"])
            for name in found["Names"]
            if name.count("/") == 1  # others are links
        ]

    return names


def _images(session: Session, typed: str) -> Iterable[Candidate]:
    """`busybox:latest` is `busybox` for short; the tag is shown once somebody types it."""
    from skiff.cli.human import size

    for image in session.engine().images():
        for name in image.get("RepoTags") or ():
            if name != "<none>:<none>":
                short = name.removesuffix(":latest")
                yield (name if typed.startswith(f"{short}:") else short), size(image["Size"], 3)
    yield "host", "this machine's own files"


def _repositories(session: Session, typed: str) -> Iterable[Candidate]:
    for image in session.engine().images():
        for name in image.get("RepoTags") or ():
            if not name.startswith("<none>"):
                yield name.rpartition(":")[0], ""


def _networks(session: Session, typed: str) -> Iterable[Candidate]:
    return [(found["Name"], found["Driver"]) for found in session.engine().networks()]


def _own_networks(session: Session, typed: str) -> Iterable[Candidate]:
    return [pair for pair in _networks(session, typed) if pair[0] not in PREDEFINED]


def _volumes(session: Session, typed: str) -> Iterable[Candidate]:
    return [(found["Name"], found["Driver"]) for found in session.engine().volumes().get("Volumes") or ()]


def _volumes_to_mount(session: Session, typed: str) -> Iterable[Candidate]:
    """`name:`, as -v goes on; what begins like a path is one."""
    if typed.startswith(("/", ".", "~")) or ":" in typed:
        return []
    return [(f"{name}:", about) for name, about in _volumes(session, typed)]


def _container_paths(session: Session, typed: str) -> Iterable[Candidate]:
    """`name:` of a container, then what is in its directories."""
    name, colon, path = typed.partition(":")
    if not colon:
        if typed.startswith(("/", ".", "~")):
            return []
        return [(f"{word}:", about) for word, about in _containers(lambda state: True)(session, typed)]
    folder, slash, _ = path.rpartition("/")
    below = folder + slash
    entries = session.engine().container_names(name, below or "/")
    return [(f"{name}:{below}{entry}", "") for entry in entries]


def _contexts(session: Session, typed: str) -> Iterable[Candidate]:
    from skiff.client.contexts import Store

    store = Store(session.config().folder)
    return [("default", ""), *((name, store.read(name).description) for name in store.names())]


def _registries(session: Session, typed: str) -> Iterable[Candidate]:
    return [(server, "") for server in session.config().values.get("auths") or {}]


def _trash(session: Session, typed: str) -> Iterable[Candidate]:
    entries = session.engine().trash()["Entries"]
    return [(str(entry["Id"]), f"{entry['Type']} {entry['Name']}") for entry in entries]


def _snapshots(kind: str) -> Callable[[Session, str], list[Candidate]]:
    def names(session: Session, owner: str) -> list[Candidate]:
        return [(str(found["Name"]), "") for found in session.engine().snapshots(kind, owner)]

    return names


def _environment(session: Session, typed: str) -> Iterable[Candidate]:
    if "=" in typed:
        return []
    return [(name.decode("utf-8", "replace"), "") for name in session.environment]


def _capabilities(session: Session, typed: str) -> Iterable[Candidate]:
    from skiff.linux.capabilities import NAMES

    cut = 0 if typed.upper().startswith("CAP_") else len("CAP_")
    return [(name[cut:], "") for name in NAMES]


def _commands(session: Session, typed: str) -> Iterable[Candidate]:
    from skiff.cli.completing import complete

    return complete([typed], lambda kind, word: ()).candidates


_ANSWERS: dict[str, Callable[[Session, str], Iterable[Candidate]]] = {
    "capabilities": _capabilities,
    "commands": _commands,
    "container-paths": _container_paths,
    "container-volumes": _volumes_to_mount,
    "containers": _containers(lambda state: True),
    "contexts": _contexts,
    "environment": _environment,
    "images": _images,
    "networks": _networks,
    "own-networks": _own_networks,
    "paused": _containers(lambda state: state == "paused"),
    "registries": _registries,
    "repositories": _repositories,
    "running": _containers(lambda state: True, all=False),
    "snapshots": _snapshots("containers"),
    "stopped": _containers(lambda state: state not in ("running", "paused", "restarting")),
    "trash": _trash,
    "volume-snapshots": _snapshots("volumes"),
    "volumes": _volumes,
}
