"""skiff why, on containers that really ended so."""

from tests.integration.engines import Engine


def ran(engine: Engine, *words: str) -> str:
    engine.skiff("run", "--name", "box", "--network", "none", *words)
    said = engine.skiff("why", "box").ok()
    engine.skiff("rm", "-f", "box").ok()
    return said


def test_reasons(engine: Engine) -> None:
    assert "no program 'nosuch'" in ran(engine, "busybox", "nosuch")
    assert "nobody may execute it" in ran(engine, "busybox", "/etc/passwd")
    assert "more memory than its limit of 16m" in ran(engine, "-m", "16m", "busybox", "tail", "/dev/zero")
    assert "Its last words: I give up" in ran(engine, "busybox", "sh", "-c", "echo I give up; exit 3")
    assert "has done its work" in ran(engine, "busybox", "true")
    assert "(SIGSEGV)" in ran(engine, "busybox", "sh", "-c", "sh -c 'kill -SEGV $$'; exit $?")


def test_stopped_and_removed(engine: Engine) -> None:
    engine.skiff("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "600").ok()
    assert engine.skiff("why", "box").ok().startswith("box is running.\nIt runs.")
    engine.skiff("stop", "-t", "1", "box").ok()
    said = engine.skiff("why", "box").ok()
    assert "It did not end on SIGTERM within 1 s, so it was killed." in said
    assert "kill, signal 9" in said
    engine.skiff("run", "--rm", "--name", "gone", "--network", "none", "busybox", "sh", "-c", "exit 4")
    said = engine.skiff("why", "gone").ok()
    assert "gone is gone: it was removed." in said
    assert "die, code 4" in said
    done = engine.skiff("why", "nobody")
    assert (done.code, done.err) == (1, "Error response from daemon: No such container: nobody\n")
