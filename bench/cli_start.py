"""How long the command line takes to start, over the bare interpreter. Milliseconds: least, median.

python bench/cli_start.py [repetitions]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAIN = str(ROOT / "src/skiff/cli/__main__.py")
sys.path[:0] = [str(ROOT)]

from tests.fakes.fake_engine import FakeEngine, Reply  # noqa: E402


def measure(argv: list[str], repetitions: int) -> tuple[float, float]:
    took = []
    for _ in range(repetitions):
        began = time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        took.append((time.perf_counter() - began) * 1000)
    return min(took), statistics.median(took)


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder, FakeEngine(f"{folder}/e.sock") as engine:
        many = [
            {"Names": [f"/web-{number}"], "Image": "nginx", "State": "running", "Status": "Up 2 hours"}
            for number in range(100)
        ]
        engine.route("GET /containers/json")(lambda request: Reply(body=many if request.query else []))
        engine.route("GET /networks")(lambda _: Reply(body=[{"Name": "bridge", "Driver": "bridge"}]))
        engine.route("GET /version")(lambda _: Reply(body={"Version": "1"}))
        engine.route("POST /containers/create")(lambda _: Reply(201, {"Id": "c", "Warnings": []}))
        engine.route("POST /containers/c/start")(lambda _: Reply(204))
        python = [sys.executable, "-IS"]
        skiff = [*python, MAIN, "-H", engine.url]
        tab = [*skiff, "completion", "words", "--", "-H", engine.url]
        os.environ["HOME"] = folder
        rows = [
            ("python -c pass", [sys.executable, "-c", "pass"]),
            ("python -IS -c pass", [*python, "-c", "pass"]),
            ("skiff --version", [*python, MAIN, "--version"]),
            ("skiff --help", [*python, MAIN, "--help"]),
            ("skiff version", [*skiff, "version"]),
            ("skiff ps", [*skiff, "ps"]),
            ("tab: a command", [*tab, "sto"]),
            ("tab: run's flags", [*tab, "run", "--net"]),
            ("tab: 100 containers", [*tab, "rm", "web-9"]),
            ("tab: a network", [*tab, "run", "--network", "b"]),
            ("skiff run -d busybox", [*skiff, "run", "-d", "busybox"]),
        ]
        for argv in (row[1] for row in rows):
            measure(argv, 2)
        for name, argv in rows:
            least, median = measure(argv, repetitions)
            print(f"{name:24} {least:7.1f} {median:7.1f}")


if __name__ == "__main__":
    main()
