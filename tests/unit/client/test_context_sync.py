"""A context on its way: its directory to an engine that can take it, a tar to every other."""

import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.fake_engine import FakeEngine, Reply, Request, upgrade

from skiff.client.build_context import Context
from skiff.client.connection import Connection, EngineError
from skiff.client.context_sync import Sync
from skiff.client.endpoint import Endpoint

PLACE = "/skiff/build/contexts/t"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(str(tmp_path / "e.sock")) as engine:
        engine.route("POST /skiff/build/contexts")(lambda _: Reply(body={"Token": "t", "Missing": [1, 2]}))
        engine.route(f"PUT {PLACE}")(lambda _: Reply(204))
        yield engine


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "d").mkdir(parents=True)
    (root / "d/large").write_bytes(b"l" * 2_000_000)
    (root / "small").write_text("s")
    return root


def sent(engine: FakeEngine, root: Path) -> Sync:
    sync = Sync(Context(str(root), ""))
    connection = Connection(Endpoint(engine.url))
    try:
        assert sync.run(connection, "key") == "t"
    finally:
        connection.close()
    return sync


def archived(engine: FakeEngine) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(engine.requests[-1].body)) as tar:
        return tar.getnames()


def test_an_engine_on_this_machine_gets_the_directory_itself(engine: FakeEngine, root: Path) -> None:
    seen: list[set[str]] = []

    def attach(request: Request) -> None:
        upgrade(request)
        _, fds, _, _ = socket.recv_fds(request.sock, 1, 1)
        seen.append(set(os.listdir(fds[0])))
        os.close(fds[0])
        request.sock.sendall(b"{}")

    engine.route(f"POST {PLACE}/attach")(attach)
    sync = sent(engine, root)
    assert seen == [{"d", "small"}]
    assert engine.paths() == ["POST /skiff/build/contexts", f"POST {PLACE}/attach"]
    assert sync.size == len(sync.manifest) + 2_000_001


def refuses(request: Request) -> Reply:
    return Reply(404, {"message": "page not found"})


def answers_with_words(request: Request) -> None:
    upgrade(request)
    request.sock.recv(1)
    request.sock.sendall(b'{"message": "no directory came"}')


def hangs_up(request: Request) -> None:
    upgrade(request)


def speaks_no_http(request: Request) -> None:
    request.sock.sendall(b"what?\r\n\r\n")


@pytest.mark.parametrize("attach", [refuses, answers_with_words, hangs_up, speaks_no_http])
def test_an_engine_that_does_not_take_it_gets_a_tar(
    engine: FakeEngine, root: Path, attach: Callable[[Request], Reply | None]
) -> None:
    engine.route(f"POST {PLACE}/attach")(attach)
    sent(engine, root)
    assert engine.paths()[1:] == [f"POST {PLACE}/attach", f"PUT {PLACE}"]
    assert archived(engine) == ["d", "d/large", "small"]


def test_little_goes_as_a_tar_at_once(engine: FakeEngine, root: Path) -> None:
    (root / "d/large").write_text("l")
    sent(engine, root)
    assert engine.paths()[1:] == [f"PUT {PLACE}"]


def test_what_we_may_not_read_the_engine_is_not_asked_to(
    engine: FakeEngine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("small"))
    sent(engine, root)
    assert engine.paths()[1:] == [f"PUT {PLACE}"]


def test_an_engine_without_kept_contexts_says_so(engine: FakeEngine, root: Path) -> None:
    engine.route("POST /skiff/build/contexts")(refuses)
    with pytest.raises(EngineError):
        sent(engine, root)
