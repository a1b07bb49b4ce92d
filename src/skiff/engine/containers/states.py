"""Which state may follow which. Pure.

    created ──start──► running ⇄ paused
       ▲                │  ▲
       │ start failed   │exit
       └──────── exited ◄┘  restarting (between an exit and the next start)

Docker's flags overlap: a paused container is running, and so is one that waits for its restart.
"""

from msgspec.structs import replace

from skiff.docker.container_view import NEVER, ContainerState
from skiff.errors import Conflict, NotModified

State = ContainerState


def startable(state: State, id: str) -> None:
    """NotModified if it runs, Conflict if it cannot start now."""
    if state.paused:
        raise Conflict("cannot start a paused container, try unpause instead")
    if state.dead or state.status == "removing":
        raise Conflict("container is marked for removal and cannot be started")
    if state.running and not state.restarting:
        raise NotModified(f"container {id} is already running")


def require_running(state: State, id: str, doing: str = "") -> None:
    """Conflict unless a task is there. doing: what could not be done, for the message."""
    if not state.running or state.restarting:
        what = f"{doing}: " if doing else ""
        if state.restarting:
            raise Conflict(f"{what}Container {id} is restarting, wait until the container is running")
        raise Conflict(f"{what}container {id} is not running")


def started(state: State, *, pid: int, at: str) -> State:
    return State(
        status="running",
        running=True,
        pid=pid,
        started_at=at,
        finished_at=state.finished_at,
        health=state.health,
    )


def start_failed(state: State, *, code: int, error: str) -> State:
    """It was not running before, and it is not now: the earlier exit is forgotten, the reason told."""
    return State(
        status="exited" if state.started_at != NEVER else "created",
        exit_code=code,
        error=error,
        started_at=state.started_at,
        finished_at=state.finished_at,
    )


def exited(state: State, *, code: int, oom_killed: bool, at: str) -> State:
    return State(
        status="exited",
        exit_code=code,
        oom_killed=oom_killed,
        error=state.error,
        started_at=state.started_at,
        finished_at=at,
        health=state.health,
    )


def restarting(state: State) -> State:
    return replace(state, status="restarting", running=True, restarting=True, pid=0)


def no_longer_restarting(state: State) -> State:
    return replace(state, status="exited", running=False, restarting=False)


def paused(state: State, id: str) -> State:
    require_running(state, id)
    if state.paused:
        raise Conflict(f"Container {id} is already paused")
    return replace(state, status="paused", paused=True)


def unpaused(state: State, id: str) -> State:
    if not state.paused:
        raise Conflict(f"Container {id} is not paused")
    return replace(state, status="running", paused=False)
