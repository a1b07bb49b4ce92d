import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.unit.engine.api.serving import ask, head, serving

from skiff.engine.api import streaming
from skiff.engine.api.absent import NOT_A_MANAGER, AbsentRoutes
from skiff.engine.api.app import Route, Table, empty, get, json, post
from skiff.engine.api.call import Call
from skiff.errors import Conflict, NotFound


class Rooms:
    def __init__(self) -> None:
        self.finished = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    def routes(self) -> Iterator[Route]:
        yield get("/echo", self.echo)
        yield get("/things/{id}/json", self.thing)
        yield get("/images/{name+}/json", self.thing)
        yield post("/things/{id}/break", self.broken)
        yield post("/things/{id}/bug", self.bug)
        yield post("/act", self.act)
        yield get("/stream", self.stream)
        yield post("/body", self.body)

    async def echo(self, call: Call) -> web.Response:
        return json(
            {
                "version": call.version,
                "flag": call.flag("f"),
                "number": call.number("n"),
                "texts": call.texts("t"),
            }
        )

    async def thing(self, call: Call) -> web.Response:
        return json(call.path)

    async def broken(self, call: Call) -> web.Response:
        raise Conflict("it is in use")

    async def bug(self, call: Call) -> web.Response:
        raise RuntimeError("oh")

    async def act(self, call: Call) -> web.Response:
        self.begun.set()
        await self.go.wait()
        self.finished.set()
        return empty()

    async def stream(self, call: Call) -> web.StreamResponse:
        response = await streaming.begin(call.request)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return response

    async def body(self, call: Call) -> web.Response:
        return json(await call.json(dict[str, int]))


async def test_a_version_prefix_is_read_and_needs_no_route_of_its_own(tmp_path: Path) -> None:
    async with serving([Rooms()], tmp_path) as path:
        for target, version in (("/echo", [1, 51]), ("/v1.30/echo", [1, 30])):
            answer = await ask(path, "GET", target)
            assert answer.json()["version"] == version
            assert answer.headers["api-version"] == "1.51"
            assert answer.headers["server"].startswith("Skiff/")
            assert answer.headers["ostype"] == "linux"


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", "/v1.99/echo", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ("GET", "/nope", 404, "page not found"),
        ("GET", "/", 404, "page not found"),
        ("GET", "/v1.40/", 404, "page not found"),
        ("DELETE", "/echo", 404, "page not found"),
        ("POST", "/things/a/break", 409, "it is in use"),
        ("POST", "/things/a/bug", 500, "oh"),
        ("GET", "/echo?n=a", 400, 'strconv.Atoi: parsing "a": invalid syntax'),
    ],
)
async def test_failures(method: str, target: str, status: int, message: str, tmp_path: Path) -> None:
    async with serving([Rooms()], tmp_path) as path:
        answer = await ask(path, method, target)
        assert (answer.status, answer.json()) == (status, {"message": message})


async def test_a_body_must_be_json_and_say_so(tmp_path: Path) -> None:
    async with serving([Rooms()], tmp_path) as path:
        assert (await ask(path, "POST", "/body", b'{"a":1}')).json() == {"a": 1}
        assert (await ask(path, "POST", "/body")).json() == {}
        answer = await ask(path, "POST", "/body", b"{}", {"Content-Type": "text/plain"})
        assert answer.json() == {
            "message": "unsupported Content-Type header (text/plain): must be 'application/json'"
        }
        assert (await ask(path, "POST", "/body", b'{"a"')).status == 400


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/things/a%20b/json", {"id": "a b"}),
        ("/images/library/busybox:1/json", {"name": "library/busybox:1"}),
        ("/images/library%2Fbusybox/json", {"name": "library/busybox"}),
        ("/images/json/json", {"name": "json"}),
    ],
)
async def test_path_variables(target: str, expected: dict[str, str], tmp_path: Path) -> None:
    async with serving([Rooms()], tmp_path) as path:
        assert (await ask(path, "GET", target)).json() == expected


@pytest.mark.parametrize(
    ("query", "flag"),
    [
        ("", False),
        ("f", False),
        ("f=", False),
        ("f=0", False),
        ("f=false", False),
        ("f=None", False),
        ("f=1", True),
        ("f=true", True),
        ("f=True", True),
        ("f=yes", True),
    ],
)
async def test_booleans_as_docker_reads_them(query: str, flag: bool, tmp_path: Path) -> None:
    async with serving([Rooms()], tmp_path) as path:
        assert (await ask(path, "GET", f"/echo?{query}")).json()["flag"] is flag


async def test_an_act_is_finished_though_its_client_has_left(tmp_path: Path) -> None:
    room = Rooms()
    async with serving([room], tmp_path) as path:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST /act HTTP/1.1\r\nHost: x\r\n\r\n")
        await room.begun.wait()
        writer.transport.abort()
        for _ in range(10):
            await asyncio.sleep(0)
        room.go.set()
        await asyncio.wait_for(room.finished.wait(), 5)


async def test_a_stream_ends_when_its_client_leaves(tmp_path: Path) -> None:
    room = Rooms()
    async with serving([room], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers = await head(reader)
        assert status == 200
        assert headers["transfer-encoding"] == "chunked"
        writer.transport.abort()
        await asyncio.wait_for(room.cancelled.wait(), 5)


async def test_what_is_absent_says_so(tmp_path: Path) -> None:
    async with serving([AbsentRoutes()], tmp_path) as path:
        swarm = await ask(path, "GET", "/v1.41/services")
        assert (swarm.status, swarm.json()["message"]) == (503, NOT_A_MANAGER)
        session = await ask(path, "POST", "/session")
        assert session.status == 501
        assert (await ask(path, "GET", "/plugins")).json() == []


def test_no_route_stands_twice() -> None:
    routes = [(route.method, route.pattern) for route in AbsentRoutes().routes()]
    assert len(routes) == len(set(routes))


def test_the_table_finds_only_whole_paths() -> None:
    table = Table(Rooms().routes())
    with pytest.raises(NotFound):
        table.find("GET", "/things/a/b/json")
    with pytest.raises(NotFound):
        table.find("GET", "/things//json")
