"""Two hundred containers later the machine holds what it held before."""

import pytest

from skiff.linux import machine, syscalls
from tests.integration.engines import Engine, wait_for
from tests.integration.footprint import descriptors, footprint, leaked

WAYS = (
    ("--network", "none"),
    (),
    ("-v", "/anonymous"),
    ("--tmpfs", "/t", "--init", "-p", "127.0.0.1::80"),
)


def is_loaded(engine: Engine) -> bool:
    """Whether the command line is as it will be."""
    return len(engine.command_lines()) == (2 if syscalls.architecture() in machine.WALK else 0)


@pytest.mark.slow
def test_two_hundred_runs(own_engine: Engine) -> None:
    def run(count: int) -> None:
        for number in range(count):
            way = WAYS[number % len(WAYS)]
            reply = own_engine.skiff("run", "--rm", *way, "busybox", "sh", "-c", "exit 3")
            assert reply.code == 3, reply

    run(8)  # what is made once is made
    wait_for(lambda: is_loaded(own_engine), 20, own_engine.log)
    wait_for(lambda: not own_engine.client.get("/containers/json", all=True).json(), 5, lambda: "they stay")
    before, opened = footprint(own_engine), descriptors(own_engine)
    run(200)
    wait_for(
        lambda: not leaked(before, footprint(own_engine)), 15, lambda: leaked(before, footprint(own_engine))
    )
    wait_for(
        lambda: all(count <= opened.get(name, 0) for name, count in descriptors(own_engine).items()),
        15,
        lambda: f"{opened} became {descriptors(own_engine)}",
    )


def test_failed_starts_leave_nothing(own_engine: Engine) -> None:
    own_engine.skiff("run", "--rm", "busybox", "true").ok()
    wait_for(lambda: is_loaded(own_engine), 20, own_engine.log)
    before = footprint(own_engine)
    for _ in range(10):
        assert own_engine.skiff("run", "--rm", "busybox", "nosuchcommand").code == 127
        assert own_engine.skiff("run", "--rm", "-v", "/etc/passwd:/etc", "busybox", "true").code in (
            125,
            126,
            127,
        )
    wait_for(
        lambda: not leaked(before, footprint(own_engine)), 15, lambda: leaked(before, footprint(own_engine))
    )
