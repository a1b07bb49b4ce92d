"""How long builds take, by skiff and by a Docker with BuildKit, in turns. Milliseconds: least, median.

python bench/builds.py --docker unix://… --skiff unix://… [--skiff-cli skiff] [--repetitions N]
Both engines run already; `docker` has buildx (DOCKER_CONFIG may say where). Scratch and both data roots had
best lie on one tmpfs. What is built is the same for both: on busybox, which is loaded first.

    cold      2,000 files copied and five commands run, --no-cache
    cached    the same again, nothing changed
    edited    one of the 2,000 files changed
    context   200 MB that the engine has never seen, copied
    resent    one megabyte of them changed
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from tests.integration import busybox  # noqa: E402

STEPS = """\
FROM busybox
ENV APP=/app
WORKDIR /app
RUN echo one > /one && mkdir -p /srv/x
COPY app /app/src
RUN find /app/src -type f | wc -l > /app/count
RUN echo two > /app/two
LABEL bench=1
RUN rm /one && touch /two
RUN cp -r /app/src/d1 /app/copy
CMD ["cat", "/app/count"]
"""
COPY = "FROM busybox\nCOPY . /context\n"
TAG = "bench-builds"
MEGABYTE = 1 << 20


class Builder:
    """A command line and the engine that it builds with."""

    def __init__(self, name: str, command: list[str], host: str) -> None:
        self.name = name
        self.command = command
        self.environment = {**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "1"}

    def do(self, *words: str, input: bytes = b"") -> float:
        """Milliseconds that the command took; one that fails ends everything."""
        began = time.perf_counter()
        done = subprocess.run(
            [*self.command, *words],
            env=self.environment,
            input=input,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        took = (time.perf_counter() - began) * 1000
        if done.returncode:
            raise SystemExit(f"{self.name} {' '.join(words)}: {done.stderr.decode(errors='replace')}")
        return took

    def build(self, context: Path, *flags: str) -> float:
        return self.do("build", *flags, "-t", TAG, str(context))


def many_files(context: Path) -> None:
    (context / "Dockerfile").write_text(STEPS)
    for number in range(2000):
        folder = context / "app" / f"d{number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(os.urandom(1024))


def large_files(context: Path) -> None:
    (context / "Dockerfile").write_text(COPY)
    for number in range(200):
        (context / f"f{number}").write_bytes(os.urandom(MEGABYTE))


def round_of(builder: Builder, scratch: Path) -> dict[str, float]:
    """Every scenario once, in directories of its own. The last image of each goes."""
    found = {}
    for make, measure in ((many_files, steps), (large_files, contexts)):
        context = Path(tempfile.mkdtemp(prefix="bench-", dir=scratch))
        try:
            make(context)
            found |= measure(builder, context)
            builder.do("rmi", "-f", TAG)
        finally:
            shutil.rmtree(context)
    builder.do("builder", "prune", "-af")
    return found


def steps(builder: Builder, context: Path) -> dict[str, float]:
    cold = builder.build(context, "--no-cache")
    cached = builder.build(context)
    (context / "app/d1/f1").write_text("edited")
    return {"cold": cold, "cached": cached, "edited": builder.build(context)}


def contexts(builder: Builder, context: Path) -> dict[str, float]:
    first = builder.build(context)
    (context / "f7").write_bytes(os.urandom(MEGABYTE))
    return {"context": first, "resent": builder.build(context)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docker", required=True, help="URL of Docker's socket")
    parser.add_argument("--skiff", required=True, help="URL of skiff's socket")
    parser.add_argument("--skiff-cli", default="skiff")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    asked = parser.parse_args()
    builders = [
        Builder("docker", ["docker"], asked.docker),
        Builder("skiff", [asked.skiff_cli], asked.skiff),
    ]
    for builder in builders:
        builder.do("load", input=busybox.archive())
        round_of(builder, asked.scratch)  # warm
    rounds: dict[str, list[dict[str, float]]] = {builder.name: [] for builder in builders}
    for number in range(asked.repetitions):
        for builder in builders if number % 2 else reversed(builders):
            rounds[builder.name].append(round_of(builder, asked.scratch))
    print(f"{'':10}{'docker':>18}{'skiff':>18}   docker/skiff")
    for scenario in rounds["docker"][0]:
        row = {name: [one[scenario] for one in found] for name, found in rounds.items()}
        shown = "".join(f"{min(row[n]):9.0f}{statistics.median(row[n]):9.0f}" for n in ("docker", "skiff"))
        ratio = statistics.median(row["docker"]) / statistics.median(row["skiff"])
        print(f"{scenario:10}{shown}   {ratio:6.1f}x")


if __name__ == "__main__":
    main()
