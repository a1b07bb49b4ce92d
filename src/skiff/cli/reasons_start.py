"""Why a container could not be started: what the engine said → what that means. Pure."""

from __future__ import annotations

from skiff.cli.case import Case, Reason, again, image, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _quoted(error: str) -> str:
    """What stands in the first pair of quotation marks."""
    return error.partition('"')[2].partition('"')[0]


def _missing_program(case: Case, error: str) -> Reason:
    program = _quoted(error) or case.program
    if " " in program:
        words = " ".join(f'"{word}"' for word in program.split())
        return Reason(
            f"There is no program called {program!r} in its image: the whole line was taken as one name.",
            f"Give the words apart: in a Dockerfile CMD [{words.replace(' ', ', ')}], on the command "
            "line no quotes.",
        )
    return Reason(
        f"Its image has no program {program!r}: not in any directory of its PATH.",
        f"See what is there: skiff run --rm --entrypoint ls {image(case)} /bin /usr/bin /usr/local/bin",
        "Give the whole path, install it in the image, or correct the spelling.",
    )


def _no_such_file(case: Case, error: str) -> Reason:
    program = _quoted(error) or case.command[0]
    return Reason(
        f"Its image has no file {program}.",
        f"See what is there: skiff run --rm --entrypoint ls {image(case)} "
        f"{program.rpartition('/')[0] or '/'}",
        "If a volume or a bind lies over that directory, it hides what the image has there.",
    )


def _directory(case: Case, error: str) -> Reason:
    return Reason(f"{_quoted(error)} is a directory, not a program.", "Name the program in it.")


def _not_executable(case: Case, error: str) -> Reason:
    program = _quoted(error) or case.command[0]
    return Reason(
        f"{program} is there, but nobody may execute it.",
        f"In the Dockerfile: COPY --chmod=755 … {program}, or RUN chmod +x {program}.",
        "A file on a volume that is mounted noexec cannot be run either.",
    )


def _port(case: Case, error: str) -> Reason:
    place = error.partition("Bind for ")[2].partition(" failed")[0] or "a port of it"
    port = place.rpartition(":")[2]
    return Reason(
        f"The host's port {place} is taken, by another container or by a program of the host.",
        f"Who has it? skiff ps --filter publish={port}; ss -ltnp 'sport = :{port}'",
        "Publish another one (-p OTHER:PORT), or let the engine choose (-p PORT).",
    )


def _user(case: Case, error: str) -> Reason:
    user = case.config.get("User") or "its user"
    return Reason(
        f"Its image does not know the user or group {user}.",
        "Give numbers (--user 1000:1000), or add the user in the Dockerfile.",
    )


def _directory_of_work(case: Case, error: str) -> Reason:
    return Reason(
        f"Its working directory {case.config.get('WorkingDir') or '/'} cannot be entered: {tail(error)}.",
        "Give another one with -w, or WORKDIR in the Dockerfile.",
    )


def _mount(case: Case, error: str) -> Reason:
    return Reason(
        f"One of its mounts could not be made: {error}.",
        "A file can only be mounted over a file, a directory over a directory; the source must be there.",
        again(case),
    )


def _network(case: Case, error: str) -> Reason:
    return Reason(f"It could not be connected to its network: {error}.", "skiff network ls", again(case))


def _control_group(case: Case, error: str) -> Reason:
    return Reason(
        f"Its limits could not be set: {error}.",
        "skiff check says which controllers this machine has.",
        again(case),
    )


def _killed(case: Case, error: str) -> Reason:
    return Reason(
        "It was killed after it had been made and before it began: by somebody on this machine, or by the "
        "kernel for want of memory.",
        "dmesg | grep -i 'killed process' tells of the kernel's.",
        again(case),
    )


START_ERRORS: tuple[tuple[str, Callable[[Case, str], Reason]], ...] = (
    ("executable file not found", _missing_program),
    ("is a directory: permission denied", _directory),
    ("stat ", _no_such_file),
    ("exec: ", _not_executable),
    ("port is already allocated", _port),
    ("address already in use", _port),
    ("unable to find user", _user),
    ("unable to find group", _user),
    ("chdir to cwd", _directory_of_work),
    ("networking", _network),
    ("network ", _network),
    ("mount ", _mount),
    ("cgroup", _control_group),
    ("cannot start a stopped process", _killed),
)
