"""What builds keep: cache mounts carried out and in, prunes by kind, and a budget kept by itself."""

import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any

from tests.integration.engines import Engine, wait_for

MOUNTED = "FROM busybox\nRUN --mount=type=cache,target=/c,id=mine/{n} ls /c > /seen; echo {n} > /c/file\n"


def usage(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Records of the build cache by type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in engine.client.get("/system/df").json()["BuildCache"] or []:
        found.setdefault(record["Type"], []).append(record)
    return found


def test_cache_mounts_are_carried_from_one_engine_to_another(
    engine: Engine, own_engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(MOUNTED.format(n=1))
    engine.skiff("build", "--no-cache", str(tmp_path)).ok()
    listed = engine.skiff("builder", "cache", "ls").ok()
    assert "mine/1" in listed
    engine.skiff("builder", "cache", "export", "mine/1", "-o", f"{tmp_path}/cache.tar").ok()
    with tarfile.open(tmp_path / "cache.tar") as archive:
        assert archive.getnames() == ["file"]
    own_engine.skiff("builder", "cache", "import", "mine/1", "-i", f"{tmp_path}/cache.tar").ok()
    own_engine.skiff("build", "-t", "seen", str(tmp_path)).ok()
    assert own_engine.skiff("run", "--rm", "--network=none", "seen", "cat", "/seen").ok() == "file"
    own_engine.skiff("builder", "cache", "rm", "mine/1").ok()
    assert own_engine.skiff("builder", "cache", "ls", "-q").ok() == ""
    done = own_engine.skiff("builder", "cache", "export", "mine/1", "-o", f"{tmp_path}/no.tar")
    assert "no such cache mount: mine/1" in done.err


def test_a_hostile_cache_is_refused_and_leaves_nothing(own_engine: Engine) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../outside"), io.BytesIO())
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(entry)
        tar.addfile(tarfile.TarInfo("link/passwd2"), io.BytesIO())
    own_engine.skiff("builder", "cache", "import", "evil", input=out.getvalue())
    assert not Path("/etc/passwd2").exists()
    assert not list(Path(own_engine.root, "data").rglob("*.new-*"))


def test_prunes_by_kind(own_engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(MOUNTED.format(n=2))
    (tmp_path / "big").write_bytes(bytes(100_000))
    own_engine.skiff("build", "-t", "kept", str(tmp_path)).ok()
    kinds = usage(own_engine)
    assert {kind: len(records) for kind, records in kinds.items()} == {
        "regular": 1,
        "source.local": 1,
        "exec.cachemount": 1,
    }
    assert kinds["source.local"][0]["Size"] >= 100_000
    would = own_engine.skiff("builder", "prune", "--dry-run", "-a").ok()
    system = own_engine.skiff("system", "prune", "--dry-run", "-a").ok()
    assert usage(own_engine) == kinds
    assert would.startswith("Would delete build cache objects:\n")
    assert "Would delete build cache objects:\n" in system
    own_engine.skiff("builder", "prune", "-f", "--filter", "type=source.local").ok()
    assert "source.local" not in usage(own_engine)
    own_engine.skiff("build", "-t", "kept", str(tmp_path)).ok()
    own_engine.skiff("builder", "prune", "-f").ok()
    assert usage(own_engine).keys() == {"regular", "exec.cachemount"}
    own_engine.skiff("rmi", "kept").ok()
    would = own_engine.skiff("builder", "prune", "--dry-run", "-a").ok()
    gone = own_engine.skiff("builder", "prune", "-af").ok()
    assert would.replace("Would delete", "Deleted").replace("reclaimable", "reclaimed") == gone
    assert usage(own_engine) == {}
    assert not os.listdir(f"{own_engine.root}/data/build-contexts")
    assert not os.listdir(f"{own_engine.root}/data/build-caches")


def test_the_budget_is_kept_by_itself(own_engine: Engine, tmp_path: Path) -> None:
    own_engine.stop()
    Path(own_engine.root, "daemon.json").write_text('{"builder": {"gc": {"defaultKeepStorage": "3MB"}}}')
    own_engine.start()
    for number in range(4):
        context = tmp_path / str(number)
        context.mkdir()
        (context / "f").write_bytes(os.urandom(1 << 20))
        (context / "Dockerfile").write_text("FROM busybox\nCOPY f /f\nRUN rm /f\n")
        own_engine.skiff("build", str(context)).ok()
        own_engine.skiff("image", "prune", "-f").ok()
        time.sleep(0.01)

    def fits() -> bool:
        records = [one for found in usage(own_engine).values() for one in found if not one["Shared"]]
        return len(records) < 8 and sum(int(one["Size"]) for one in records) <= 3_000_000

    wait_for(fits, 10, lambda: str(usage(own_engine)))
    # what was used last is there still
    assert "Using cache" in own_engine.skiff("build", str(tmp_path / "3")).ok()
