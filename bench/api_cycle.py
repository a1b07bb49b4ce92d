"""What a cycle of API calls costs, and how much of it is the engine's own CPU.

Run as root from the top of the project: `python bench/api_cycle.py [rounds] [name…]`. It starts an engine
of its own with busybox, and prints for each kind of cycle minimum, lower quartile and median in
milliseconds, and the engine's CPU time (user and system, its threads included) per cycle.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

TOP = Path(__file__).parents[1]
sys.path[:0] = [str(TOP), str(TOP / "src")]

from tests.integration import busybox  # noqa: E402
from tests.integration.engines import Engine  # noqa: E402

MANY = 100
ABREAST = 10


class Api(HTTPConnection):
    """One connection that is kept."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX)
        self.sock.connect(self.path)

    def call(self, method: str, target: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        self.request(method, target, data, {"Content-Type": "application/json"} if data else {})
        reply = self.getresponse()
        answer = reply.read()
        if reply.status >= 400:
            raise RuntimeError(f"{method} {target}: {reply.status} {answer!r}")
        return json.loads(answer) if answer else None


Job = Callable[[Api], Any]


def cpu(pid: int) -> float:
    """Seconds; threads included, children not. From schedstat, which counts nanoseconds."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def create(api: Api, mode: str, command: tuple[str, ...] = ("true",)) -> str:
    wish = {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": mode}}
    made: str = api.call("POST", "/containers/create", wish)["Id"]
    return made


def start(api: Api, id: str) -> None:
    api.call("POST", f"/containers/{id}/start")


def remove(api: Api, id: str) -> None:
    api.call("DELETE", f"/containers/{id}?force=1")


def run(api: Api, mode: str) -> None:
    id = create(api, mode)
    start(api, id)
    api.call("POST", f"/containers/{id}/wait")
    api.call("DELETE", f"/containers/{id}")


def execute(api: Api, id: str) -> None:
    made = api.call("POST", f"/containers/{id}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
    api.call("POST", f"/exec/{made}/start", {"Detach": True})
    api.call("GET", f"/exec/{made}/json")


async def abreast(path: str, jobs: list[Job]) -> None:
    """All jobs, ten at a time, each lane with its connection."""
    waiting = iter(jobs)

    def lane() -> None:
        api = Api(path)
        for job in waiting:
            job(api)
        api.close()

    lanes: list[Awaitable[None]] = [asyncio.to_thread(lane) for _ in range(ABREAST)]
    await asyncio.gather(*lanes)


class Bench:
    def __init__(self, engine: Engine, rounds: int) -> None:
        assert engine.process is not None
        self.pid = engine.process.pid
        self.path = engine.socket
        self.api = Api(engine.socket)
        self.rounds = rounds

    def show(self, name: str, times: list[float], used: float, cycles: int) -> None:
        times = sorted(time * 1000 for time in times)
        low, quarter, middle = times[0], times[len(times) // 4], times[len(times) // 2]
        print(
            f"{name:<16} min {low:7.2f}   p25 {quarter:7.2f}   median {middle:7.2f} ms   "
            f"engine {used / cycles * 1000:6.2f} ms",
            flush=True,
        )

    def repeat(self, name: str, work: Callable[[], None], rounds: int = 0) -> None:
        for _ in range(3):
            work()
        times = []
        before = cpu(self.pid)
        for _ in range(rounds or self.rounds):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        self.show(name, times, cpu(self.pid) - before, len(times))

    def in_parallel(self, name: str, jobs: list[Job]) -> None:
        before, begin = cpu(self.pid), time.perf_counter()
        asyncio.run(abreast(self.path, jobs))
        self.show(f"{name} ×{len(jobs)}", [time.perf_counter() - begin], cpu(self.pid) - before, len(jobs))

    def run_none(self) -> None:
        self.repeat("run none", lambda: run(self.api, "none"))

    def run_bridge(self) -> None:
        self.repeat("run bridge", lambda: run(self.api, "bridge"))

    def exec(self) -> None:
        id = create(self.api, "none", ("sleep", "1000"))
        start(self.api, id)
        self.repeat("exec", lambda: execute(self.api, id))
        remove(self.api, id)

    def many(self) -> None:
        ids: list[str] = []
        one = ("sleep", "1000")
        creates: list[Job] = [lambda api: ids.append(create(api, "bridge", one))] * MANY
        self.in_parallel("create", creates)
        self.repeat("list created", lambda: self.api.call("GET", "/containers/json?all=1"))
        starts: list[Job] = [partial(start, id=id) for id in ids]
        self.in_parallel("start", starts)
        self.repeat("list running", lambda: self.api.call("GET", "/containers/json?all=1"))
        smaps = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        print(f"engine with {MANY}: {next(line for line in smaps if line.startswith('Pss:'))}")
        removals: list[Job] = [partial(remove, id=id) for id in ids]
        self.in_parallel("stop and remove", removals)

    def info(self) -> None:
        self.repeat("version", lambda: self.api.call("GET", "/version"))
        self.repeat("info", lambda: self.api.call("GET", "/info"))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    engine = Engine()
    try:
        engine.start()
        engine.client.post("/images/load", busybox.archive())
        bench = Bench(engine, rounds)
        kinds = {
            "none": bench.run_none,
            "bridge": bench.run_bridge,
            "exec": bench.exec,
            "many": bench.many,
            "info": bench.info,
        }
        for name in sys.argv[2:] or kinds:
            kinds[name]()
    finally:
        engine.close()


if __name__ == "__main__":
    main()
