"""How fast layers are extracted: one large gzip layer, then twenty small ones, into a directory.

    python bench/untar_throughput.py [--layer layer.tar.gz] DIRECTORY      (a tmpfs: disks vary)

Without --layer a tree of 17,000 files and 380 MB is made up first. Needs root.
"""

import argparse
import concurrent.futures
import hashlib
import io
import os
import random
import shutil
import time
from collections.abc import Iterator

from skiff.engine.storage import compression, tarwriter
from skiff.engine.storage.apply import Draft, Layers
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.state import SqliteState
from skiff.oci.digest import ChainID

FILES = 17_000
SMALL_LAYERS = 20


def made_up(files: int, average: int) -> Iterator[bytes]:
    chance = random.Random(1)
    words = [chance.randbytes(chance.randrange(2, 12)) for _ in range(3000)]
    for index in range(files):
        if index % 12 == 0:
            yield tarwriter.header(b"5", b"d%d/" % (index // 12), mode=0o755, mtime_ns=10**18)
        size = int(chance.expovariate(1 / average))
        data = b"".join(chance.choices(words, k=size // 6))[:size]
        yield tarwriter.header(
            b"0", b"d%d/f%d" % (index // 12, index), mode=0o644, size=len(data), mtime_ns=10**18
        )
        yield data
        yield tarwriter.padding(len(data))
    yield tarwriter.END


def write(path: str, chunks: Iterator[bytes]) -> None:
    with open(path, "wb") as file:
        for chunk in compression.gzipped(chunks):
            file.write(chunk)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory")
    parser.add_argument("--layer")
    arguments = parser.parse_args()
    root = f"{arguments.directory}/untar-throughput"
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    large = arguments.layer or f"{root}/large.tar.gz"
    if not arguments.layer:
        write(large, made_up(FILES, 22_000))
    small = [f"{root}/small{n}.tar.gz" for n in range(SMALL_LAYERS)]
    for n, path in enumerate(small):
        write(path, made_up(10 + n, 2_000))

    snapshots = OverlaySnapshots(f"{root}/snapshots", SqliteState(f"{root}/state.db"))
    layers = Layers(snapshots)
    try:
        began = time.perf_counter()
        layers.discard(extracted(layers, small[0]))
        report("first small layer, helper started", began)
        for _ in range(3):
            began = time.perf_counter()
            draft = extracted(layers, large)
            report(f"large layer: {draft.applied.size / 1e6:.0f} MB, {draft.applied.entries} entries", began)
            layers.discard(draft)
            snapshots.sweep()
        for _ in range(3):
            began = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(3) as threads:
                drafts = list(threads.map(lambda path: extracted(layers, path), small))
            names = [ChainID(f"sha256:{hashlib.sha256(os.urandom(8)).hexdigest()}") for _ in drafts]
            for draft, name, parent in zip(drafts, names, [None, *names], strict=False):
                layers.commit(draft, name, parent)
            report(f"{SMALL_LAYERS} small layers, committed", began)
    finally:
        layers.close()
        shutil.rmtree(root)


def extracted(layers: Layers, path: str) -> Draft:
    with io.FileIO(path) as blob:
        return layers.extract(blob)


def report(what: str, began: float) -> None:
    print(f"{what:50} {(time.perf_counter() - began) * 1000:8.1f} ms")


if __name__ == "__main__":
    main()
