"""What a child looks like after apply_identity: each test forks one and reads it from /proc."""

import os
import resource
from collections.abc import Callable

import pytest

from skiff.linux import capabilities
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Capabilities, Process, Rlimit, Seccomp, SyscallRule, User
from skiff.runtime.isolation import identity, seccomp

TWO = ("CAP_CHOWN", "CAP_NET_BIND_SERVICE")


def seen_by_child(act: Callable[[], str | None]) -> str:
    """What `act` returns, or the error it raised, from a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = act() or status()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        answer = file.read().decode()
    os.waitpid(pid, 0)
    return answer


def status() -> str:
    with open("/proc/thread-self/status") as file:
        return file.read() + f"umask {os.umask(0):o}\n"


def fields(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def become(process: Process, filter: Filter | None = None) -> dict[str, str]:
    def act() -> None:
        identity.apply_identity(process, filter)

    return fields(seen_by_child(act))


@pytest.mark.root
def test_a_user_with_capabilities() -> None:
    wanted = Capabilities(bounding=(*TWO, "CAP_KILL"), effective=TWO[:1], permitted=TWO, inheritable=TWO[:1])
    seen = become(Process(user=User(1000, 100, additional_gids=(5, 6)), capabilities=wanted))
    assert seen["Uid"].split() == ["1000"] * 4
    assert seen["Gid"].split() == ["100"] * 4
    assert seen["Groups"].split() == ["5", "6"]
    assert int(seen["CapBnd"], 16) == capabilities.mask(wanted.bounding)
    assert int(seen["CapEff"], 16) == capabilities.mask(wanted.effective)
    assert int(seen["CapPrm"], 16) == capabilities.mask(wanted.permitted)
    assert int(seen["CapInh"], 16) == capabilities.mask(wanted.inheritable)
    assert int(seen["CapAmb"], 16) == 0
    assert seen["NoNewPrivs"] == "0"


@pytest.mark.root
def test_ambient_capabilities() -> None:
    wanted = Capabilities(bounding=TWO, effective=TWO, permitted=TWO, inheritable=TWO, ambient=TWO)
    seen = become(Process(user=User(1000, 1000), capabilities=wanted))
    assert int(seen["CapAmb"], 16) == capabilities.mask(TWO)


@pytest.mark.root
def test_no_capabilities_at_all_is_the_default() -> None:
    seen = become(Process())
    assert [seen[key] for key in ("CapPrm", "CapEff", "CapBnd")] == ["0" * 16] * 3


@pytest.mark.root
def test_what_we_do_not_have_is_left_out() -> None:
    everything = capabilities.NAMES
    _, have, _ = capabilities.get_sets()
    seen = become(Process(capabilities=Capabilities(bounding=everything, permitted=everything)))
    assert int(seen["CapPrm"], 16) == have


@pytest.mark.root
@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("uid", [0, 1000])
def test_seccomp_with_and_without_new_privileges(no_new_privileges: bool, uid: int) -> None:
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(SyscallRule(("mkdir", "mkdirat"), "SCMP_ACT_ERRNO", 95),))
    process = Process(user=User(uid, uid), no_new_privileges=no_new_privileges)
    seen = become(process, Filter(seccomp.compile(profile)))
    assert seen["Seccomp"] == "2"
    assert seen["NoNewPrivs"] == str(int(no_new_privileges))

    def act() -> str:
        identity.apply_identity(process, Filter(seccomp.compile(profile)))
        os.mkdir("/tmp/never")
        return "made"

    assert "Errno 95" in seen_by_child(act)


@pytest.mark.root
def test_umask() -> None:
    assert "umask 22" in seen_by_child(lambda: _applied(Process()))
    assert "umask 7" in seen_by_child(lambda: _applied(Process(user=User(umask=7))))


def _applied(process: Process) -> None:
    identity.apply_identity(process)


def test_rlimits_are_set_or_clamped_and_noted() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)

    def act() -> str:
        fine = identity.set_rlimit(Rlimit("RLIMIT_NOFILE", 64, 128))
        too_much = identity.set_rlimit(Rlimit("RLIMIT_NOFILE", 2**64 - 1, -1))
        return f"{fine} {len(too_much)} {resource.getrlimit(resource.RLIMIT_NOFILE)}"

    seen = seen_by_child(act)
    assert seen.startswith("[] ")
    assert seen.split(" ", 2)[1] == "1"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == most


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (Process(rlimits=(Rlimit("RLIMIT_FOO"),)), "unknown rlimit RLIMIT_FOO"),
        (Process(scheduler={"policy": "SCHED_IDLE"}), "scheduler is not supported"),
        (Process(io_priority={"class": "FAST"}), "unknown I/O priority class FAST"),
    ],
)
def test_what_is_unknown_is_refused(process: Process, message: str) -> None:
    assert message in seen_by_child(lambda: _applied(process))


def test_oom_score_is_raised_and_a_refusal_noted() -> None:
    def act() -> str:
        notes = identity.set_oom_score(500)
        with open("/proc/self/oom_score_adj") as file:
            return f"{notes} {file.read().strip()}"

    assert seen_by_child(act) == "[] 500"


@pytest.mark.root
def test_io_priority() -> None:
    process = Process(io_priority={"class": "IOPRIO_CLASS_BE", "priority": 4})
    assert "Uid" in seen_by_child(lambda: _applied(process))
