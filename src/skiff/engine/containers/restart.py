"""Restart policy: does an exited container start again, and after how long?

Pure. The supervisor asks at every exit.
As Docker does: the delay doubles from 100 ms up to one minute, and begins anew
once a run has lasted ten seconds.
"""

from datetime import timedelta

from skiff.docker.container import RestartPolicy
from skiff.engine.execution.runtime import TaskExit
from skiff.errors import InvalidParameter

FIRST_DELAY = timedelta(milliseconds=100)
LONGEST_DELAY = timedelta(minutes=1)
NO_DELAY = timedelta(0)
STEADY_RUN = timedelta(seconds=10)
POLICIES = ("no", "always", "on-failure", "unless-stopped")


def check(policy: RestartPolicy, *, auto_remove: bool = False) -> None:
    """InvalidParameter in Docker's words."""
    name = policy.name or "no"
    if name not in POLICIES:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and name != "on-failure":
        raise InvalidParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if auto_remove and name != "no":
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")


def next_start(
    policy: RestartPolicy, ended: TaskExit, *, restarts: int, previous: timedelta, stopped_by_user: bool
) -> timedelta | None:
    """The delay before the next start, or None to stay down.

    previous: the delay used last time; zero for a first restart.
    Engine API 1.47, RestartPolicy.
    """
    if stopped_by_user or not _wants(policy, ended, restarts):
        return None
    if ended.ran_for >= STEADY_RUN or not previous:
        return FIRST_DELAY
    return min(previous * 2, LONGEST_DELAY)


def _wants(policy: RestartPolicy, ended: TaskExit, restarts: int) -> bool:
    match policy.name:
        case "always" | "unless-stopped":
            return True
        case "on-failure":
            limit = policy.maximum_retry_count  # 0: no limit
            return ended.code != 0 and (not limit or restarts < limit)
        case _:
            return False


def starts_at_boot(policy: RestartPolicy, *, stopped_by_user: bool, was_started: bool) -> bool:
    """Whether a container that is down when the engine boots is started: always means after a stop, too."""
    match policy.name:
        case "always":
            return was_started
        case "unless-stopped":
            return was_started and not stopped_by_user
        case _:
            return False
