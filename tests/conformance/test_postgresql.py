"""PostgreSQL of Debian's packages: driven by testcontainers, and outliving the engine that started it.

Its root file system is made once by mmdebstrap and kept below ~/.cache.
"""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import Engine, wait_for
from tests.integration.test_debian import CACHE, LEAVE_OUT, SUITE

HERE = Path(__file__).parent
STORY = HERE / "testcontainers_story.py"
BASE = "debian-postgresql"
PSQL = ("exec", "-e", "PGPASSWORD=secret", "db", "psql", "-h", "127.0.0.1", "-U", "postgres", "-Atc")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="session")
def base() -> Path:
    """The tar of a root file system with PostgreSQL."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"postgresql-{SUITE}.tar"
    with open(CACHE / "postgresql.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be making it
        if not kept.exists():
            fresh = kept.with_suffix(".fresh")
            without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEAVE_OUT]
            command = ["mmdebstrap", "--quiet", "--format=tar", "--variant=essential", "--include=postgresql"]
            subprocess.run([*command, *without, SUITE, str(fresh)], check=True, timeout=380)
            fresh.rename(kept)
    return kept


@pytest.fixture
def engine(own_engine: Engine, base: Path) -> Iterator[Engine]:
    own_engine.docker("import", str(base), BASE).ok()
    yield own_engine


def test_testcontainers(engine: Engine) -> None:
    story = (sys.executable, str(STORY), str(HERE / "postgres"))
    told = engine.run("env", "TESTCONTAINERS_RYUK_DISABLED=true", *story, timeout=120)
    assert told.code == 0, told
    assert told.out.splitlines() == [
        "PostgreSQL",
        "[[10000, 10000]]",
        "0 b'42\\n'",
        "(b'reached\\n', b'')",
        "True",
        "[]",
    ]
    assert engine.docker("network", "ls", "--filter", "type=custom", "-q").ok() == ""


def test_a_database_outlives_its_engine(engine: Engine) -> None:
    engine.docker("build", "-t", "db", str(HERE / "postgres")).ok()
    limits = ("--memory", "256m", "--shm-size", "64m", "--pids-limit", "100", "--stop-timeout", "30")
    password = ("-e", "POSTGRES_PASSWORD=secret")
    engine.docker(
        "run", "-d", "--name", "db", *limits, *password, "-v", "rows:/var/lib/postgresql/data", "db"
    ).ok()
    health = ("inspect", "--format", "{{.State.Health.Status}}", "db")
    wait_for(lambda: engine.docker(*health).ok() == "healthy", 60, lambda: repr(engine.docker("logs", "db")))
    engine.docker(*PSQL, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").ok()
    before = engine.docker("inspect", "--format", "{{.State.Pid}}", "db").ok()

    # a statement is under way while the engine dies, and it ends as if nothing had happened
    slow = "INSERT INTO t SELECT 0 FROM (SELECT pg_sleep(3)) AS s; CHECKPOINT"
    busy = ("exec", "-d", *PSQL[1:], slow)
    engine.docker(*busy).ok()
    engine.crash()
    engine.start()
    assert engine.docker("inspect", "--format", "{{.State.Pid}}", "db").ok() == before
    count = (*PSQL, "SELECT count(*) FROM t")
    wait_for(lambda: engine.docker(*count).ok() == "1001", 30, lambda: engine.docker(*count).out)
    wait_for(lambda: engine.docker(*health).ok() == "healthy", 30, lambda: repr(engine.docker(*health)))

    # stopped in order by the image's SIGINT; what was written is there in another container
    engine.docker("stop", "db").ok()
    assert (
        engine.docker("inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", "db").ok()
        == "0 false"
    )
    assert "database system is shut down" in engine.docker("logs", "db").err
    engine.docker("rm", "db").ok()
    engine.docker("run", "-d", "--name", "db", *password, "-v", "rows:/var/lib/postgresql/data", "db").ok()
    wait_for(lambda: engine.docker(*health).ok() == "healthy", 60, lambda: repr(engine.docker("logs", "db")))
    assert engine.docker(*count).ok() == "1001"
    assert "was not properly shut down" not in engine.docker("logs", "db").err
    engine.docker("rm", "-f", "db").ok()
    engine.docker("volume", "rm", "rows").ok()
