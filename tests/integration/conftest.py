"""Engines for stories: `engine` is shared by a session, `own_engine` is a test's own and may be killed."""

import os
import shutil
from collections.abc import Iterator
from typing import NoReturn, Protocol

import pytest

from tests.integration import busybox
from tests.integration.engines import Engine, Run
from tests.integration.image_store import serving


class Cli(Protocol):
    """Words after `docker` or `skiff`."""

    def __call__(self, *words: str, input: bytes | None = None, timeout: float = 60) -> Run: ...


ENGINES = {"engine", "own_engine", "hub_engine"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = _missing()
    for item in items:
        if ENGINES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.root)
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


def _missing() -> str:
    if os.geteuid() != 0:
        return "needs root"
    for program in ("docker", "busybox"):
        if not shutil.which(program):
            return f"needs the program {program}"
    return ""


@pytest.fixture(scope="session")
def busybox_archive() -> bytes:
    return busybox.archive()


@pytest.fixture(scope="session")
def _session_engine(busybox_archive: bytes) -> Iterator[Engine]:
    yield from _running(busybox_archive)


@pytest.fixture
def engine(_session_engine: Engine) -> Iterator[Engine]:
    """The session's engine with busybox loaded; containers and volumes of a test are removed after it."""
    before = set(_volumes(_session_engine))
    yield _session_engine
    trouble = _session_engine.remove_containers()
    for name in set(_volumes(_session_engine)) - before:
        _session_engine.client.delete(f"/volumes/{name}", force=True)
    if trouble:
        _fail(trouble)


@pytest.fixture(params=["skiff", "docker"])
def cli(engine: Engine, request: pytest.FixtureRequest) -> Cli:
    """A command line on the session's engine: ours, then the stock one."""
    words: Cli = getattr(engine, request.param)
    return words


@pytest.fixture
def own_engine(busybox_archive: bytes) -> Iterator[Engine]:
    """An engine of this test alone, with busybox loaded."""
    yield from _running(busybox_archive)


def _running(archive: bytes) -> Iterator[Engine]:
    running = Engine()
    try:
        running.start()
        reply = running.client.post("/images/load", archive)
        assert reply.status == 200, reply
        assert b"errorDetail" not in reply.body, reply
        yield running
    finally:
        running.close()


def _volumes(engine: Engine) -> list[str]:
    return [volume["Name"] for volume in engine.client.get("/volumes").json()["Volumes"]]


def _fail(trouble: list[str]) -> NoReturn:
    pytest.fail("\n".join(trouble))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry of the module's own."""
    with serving(tmp_path_factory.mktemp("registry")) as address:
        yield address
