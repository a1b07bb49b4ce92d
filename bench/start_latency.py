"""How long a container takes from request to exit, and an exec, through the native runtime.

Run as root from the top of the project: `python bench/start_latency.py [rounds]`. Overlay root, all
namespaces, full default spec, cgroups, seccomp. Prints minimum, lower quartile and median of each step in
milliseconds.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).parents[1]
sys.path[:0] = [str(TOP), str(TOP / "src")]

from tests.fakes import bundles  # noqa: E402

from skiff.engine.execution import bundle  # noqa: E402
from skiff.engine.execution.native import NativeRuntime  # noqa: E402
from skiff.engine.execution.runtime import LogConfig, Stdio  # noqa: E402
from skiff.oci.runtime import Process  # noqa: E402
from skiff.paths import RunPaths  # noqa: E402

Figures = dict[str, list[float]]


def add(figures: Figures, name: str, begin: float, end: float) -> None:
    figures.setdefault(name, []).append((end - begin) * 1000)


def show(figures: Figures) -> None:
    for name, values in figures.items():
        values.sort()
        low, quarter, middle = values[0], values[len(values) // 4], values[len(values) // 2]
        print(f"{name:<16} min {low:7.2f}   p25 {quarter:7.2f}   median {middle:7.2f} ms")


async def measure(place: Path, rounds: int) -> Figures:
    figures: Figures = {}
    lower = bundles.make_root(place / "lower")
    run = RunPaths(str(place / "run"))
    parent = f"/skiff-bench-{os.getpid()}"
    runtime = NativeRuntime(run, parent)
    serving = asyncio.create_task(runtime.run())
    await asyncio.sleep(0.2)
    for number in range(rounds + 1):
        id = runtime.next_id()
        layer = bundles.overlay(place / id, lower)
        written = bundle.write(run, id, bundles.spec("true", cgroup=f"{parent}/{id}"))
        stdio = Stdio(log=LogConfig(path=str(place / id / "log")))
        at = [time.perf_counter()]
        task = await runtime.create(written, (layer,), stdio)
        at.append(time.perf_counter())
        await task.start()
        at.append(time.perf_counter())
        await task.wait()
        at.append(time.perf_counter())
        await task.delete()
        at.append(time.perf_counter())
        if number:  # the first compiles the filter
            for index, name in enumerate(("create", "start", "exit", "delete")):
                add(figures, name, at[index], at[index + 1])
            add(figures, "request to exit", at[0], at[3])
        await asyncio.sleep(0.02)
    written = bundle.write(run, "e", bundles.spec("sleep", "1000", cgroup=f"{parent}/e"))
    task = await runtime.create(written, (bundles.overlay(place / "e", lower),), Stdio())
    await task.start()
    for number in range(rounds):
        begin = time.perf_counter()
        process = await task.exec(f"e{number}", Process(args=("true",), env=("PATH=/bin",)), Stdio())
        middle = time.perf_counter()
        await process.wait()
        add(figures, "exec", begin, middle)
        add(figures, "exec to exit", begin, time.perf_counter())
        await asyncio.sleep(0.01)
    await task.delete(force=True)
    await runtime.close()
    await serving
    return figures


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    place = Path(tempfile.mkdtemp(prefix="skiff-bench-"))
    try:
        show(asyncio.run(measure(place, rounds)))
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
