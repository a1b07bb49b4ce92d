"""client/connection.py against a fake engine: every way a body can come, and every way it can go wrong."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.fake_engine import FakeEngine, Reply, Request, upgrade

from skiff.client import json_text
from skiff.client.connection import BrokenReply, Connection, EngineError, query_string, read_head
from skiff.client.endpoint import CannotConnect, Endpoint
from skiff.errors import InvalidParameter, SkiffError


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(str(tmp_path / "e.sock")) as engine:
        yield engine


@pytest.fixture
def connection(engine: FakeEngine) -> Iterator[Connection]:
    connection = Connection(Endpoint(engine.url))
    yield connection
    connection.close()


def test_one_connection_serves_many_requests(engine: FakeEngine, connection: Connection) -> None:
    engine.route("GET /a")(lambda _: Reply(body={"a": 1}))
    engine.route("POST /b")(lambda request: Reply(201, {"got": request.json}))
    assert connection.request("GET", "/a").json() == {"a": 1}
    assert connection.request("POST", "/b", json={"x": "é"}).json() == {"got": {"x": "é"}}
    assert engine.connections == 1
    assert [request.version for request in engine.requests] == ["1.51", "1.51"]


def test_a_body_may_come_in_chunks_counted_or_until_the_end(
    engine: FakeEngine, connection: Connection
) -> None:
    engine.route("GET /chunks")(lambda _: Reply(chunks=[b'{"n"', b": 1}\n{", b'"n": 2}\n']))
    engine.route("GET /close")(lambda _: Reply(body=b"abc", close=True))
    engine.route("GET /none")(lambda _: Reply(204))
    assert list(connection.request("GET", "/chunks").lines()) == [{"n": 1}, {"n": 2}]
    assert connection.request("GET", "/close").read() == b"abc"
    assert connection.request("GET", "/none").json() is None


LARGE = [bytes([n]) * (300_000 + n) for n in range(5)]


@pytest.mark.parametrize("flags", [0, os.O_APPEND])  # nothing can be spliced to the end of a file
@pytest.mark.parametrize("how", ["chunks", "counted", "close"])
def test_a_body_is_poured_into_files(
    engine: FakeEngine, connection: Connection, tmp_path: Path, how: str, flags: int
) -> None:
    whole = b"".join(LARGE)
    reply = Reply(chunks=LARGE) if how == "chunks" else Reply(body=whole, close=how == "close")
    engine.route("GET /a")(lambda _: reply)
    response = connection.request("GET", "/a")
    head = response.take(7)
    with open(os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT | flags), "w+b") as file:
        response.pour(file.fileno(), 1_000_000)
        between = response.take(3)
        response.pour(file.fileno(), len(whole) - 1_000_000 - len(head) - len(between))
    at = len(head) + 1_000_000
    assert (tmp_path / "f").read_bytes() == whole[len(head) : at] + whole[at + len(between) :]
    assert (head, between) == (whole[: len(head)], whole[at : at + len(between)])
    assert response.take() == b""
    assert connection.request("GET", "/a").status == 200
    assert engine.connections == (2 if how == "close" else 1)


def test_a_body_that_ends_too_early_cannot_be_poured(
    engine: FakeEngine, connection: Connection, tmp_path: Path
) -> None:
    engine.route("GET /a")(lambda _: Reply(chunks=LARGE[:1]))
    with open(tmp_path / "f", "wb") as file, pytest.raises(BrokenReply, match="unexpected EOF"):
        connection.request("GET", "/a").pour(file.fileno(), len(LARGE[0]) + 1)


def test_a_full_disk_is_told(engine: FakeEngine, connection: Connection) -> None:
    engine.route("GET /a")(lambda _: Reply(chunks=LARGE))
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        connection.request("GET", "/a").pour(full.fileno(), 1_000_000)


def test_an_unread_stream_does_not_disturb_other_calls(engine: FakeEngine, connection: Connection) -> None:
    engine.route("GET /stream")(lambda _: Reply(chunks=[b"{}\n"] * 3))
    engine.route("GET /a")(lambda _: Reply(body=[]))
    lines = connection.request("GET", "/stream").lines()
    assert next(lines) == {}
    assert connection.request("GET", "/a").json() == []
    assert list(lines) == [{}, {}]


def test_errors_carry_the_engines_words(engine: FakeEngine, connection: Connection) -> None:
    engine.route("GET /x")(lambda _: Reply(404, {"message": "No such container: x"}))
    with pytest.raises(EngineError) as caught:
        connection.request("GET", "/x")
    assert caught.value.status == 404
    assert str(caught.value) == "Error response from daemon: No such container: x"
    engine.route("GET /x")(lambda _: Reply(400, {"message": "wrong", "detail": "\nhere"}))
    with pytest.raises(EngineError) as caught:
        connection.request("GET", "/x")
    assert caught.value.message == "wrong"
    assert str(caught.value) == "Error response from daemon: wrong\nhere"


def test_an_idle_connection_closed_by_the_engine_is_replaced(
    engine: FakeEngine, connection: Connection
) -> None:
    engine.route("GET /last")(lambda _: Reply(body=b"1", headers={"Content-Length": "1"}, close=True))
    engine.route("GET /a")(lambda _: Reply(body=b"2"))
    assert connection.request("GET", "/last").read() == b"1"
    assert connection.request("GET", "/a").read() == b"2"


def test_the_version_goes_down_when_the_engine_is_older(engine: FakeEngine, connection: Connection) -> None:
    def answer(request: Request) -> Reply:
        if request.version == "1.47":
            return Reply(body={"ok": True})
        words = "client version 1.51 is too new. Maximum supported API version is 1.47"
        return Reply(400, {"message": words})

    engine.route("GET /a")(answer)
    assert connection.request("GET", "/a").json() == {"ok": True}
    assert connection.version == "1.47"


def test_bytes_after_the_head_belong_to_the_hijacked_stream(
    engine: FakeEngine, connection: Connection
) -> None:
    def attach(request: Request) -> None:
        upgrade(request)
        request.sock.sendall(b"early")
        request.sock.sendall(request.reader.read())

    engine.route("POST /attach")(attach)
    stream = connection.hijack("/attach")
    stream.sendall(b"mine")
    stream.close_write()
    said = b""
    while data := stream.recv():
        said += data
    assert said == b"earlymine"
    assert engine.requests[0].headers["upgrade"] == "tcp"


def test_a_stream_of_bytes_is_sent_in_chunks(engine: FakeEngine, connection: Connection) -> None:
    engine.route("POST /load")(lambda request: Reply(body=len(request.body)))
    assert connection.request("POST", "/load", body=iter([b"a" * 70000, b"", b"b"])).json() == 70001


def test_nobody_listens(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none.sock"
    with pytest.raises(CannotConnect) as caught:
        Connection(Endpoint(url)).request("GET", "/a")
    assert str(caught.value) == f"Cannot connect to the Docker daemon at {url}. Is the docker daemon running?"


def test_an_absent_engine_may_be_started_once(tmp_path: Path) -> None:
    path = str(tmp_path / "e.sock")
    started = []

    def start() -> bool:
        engine = FakeEngine(path)
        engine.route("GET /a")(lambda _: Reply(body=1))
        started.append(engine.__enter__())
        return True

    assert Connection(Endpoint(f"unix://{path}"), on_absent=start).request("GET", "/a").json() == 1
    assert len(started) == 1
    started[0].__exit__()


def test_queries() -> None:
    query = {"a": True, "b": None, "c": ["x y", "z"], "filters": {"name": ["/é"]}, "n": 0}
    assert query_string(query) == "?a=1&c=x%20y&c=z&filters=%7B%22name%22%3A%5B%22%2F%5Cu00e9%22%5D%7D&n=0"
    assert query_string({}) == ""


@pytest.mark.parametrize(
    ("url", "kind", "address", "port", "path"),
    [
        ("unix:///a/b.sock", "unix", "", 0, "/a/b.sock"),
        ("tcp://host", "tcp", "host", 2375, ""),
        ("tcp://[::1]:99", "tcp", "::1", 99, ""),
        ("host:1", "tcp", "host", 1, ""),
        ("ssh://me@host:22/run/x.sock", "ssh", "host", 22, "/run/x.sock"),
    ],
)
def test_endpoints(url: str, kind: str, address: str, port: int, path: str) -> None:
    endpoint = Endpoint(url)
    assert (endpoint.kind, endpoint.address, endpoint.port, endpoint.path) == (kind, address, port, path)


@pytest.mark.parametrize("url", ["foo://x", "unix://", "tcp://x:y", "ssh://"])
def test_endpoints_that_cannot_be(url: str) -> None:
    with pytest.raises(InvalidParameter):
        Endpoint(url)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_head_end_in_an_answer_or_an_error(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        with pytest.raises(BrokenReply):
            read_head(ours)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_json_round_trip(value: object) -> None:
    assert json_text.decode(json_text.encode(value)) == value


@given(st.text())
def test_any_text_is_json_or_refused(text: str) -> None:
    try:
        json_text.decode(text)
    except (ValueError, SkiffError):
        pass
