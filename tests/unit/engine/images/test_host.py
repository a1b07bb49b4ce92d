"""The image `host` on a make-believe root."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from skiff.engine.images.host import HIDDEN, HostImage
from skiff.engine.storage.snapshots import SnapshotInfo, SnapshotKey
from skiff.engine.storage.state import MemoryState
from skiff.errors import Conflict, NotFound
from skiff.oci.digest import ChainID
from skiff.oci.platform import Platform

PLATFORM = Platform(architecture="amd64", os="linux")


class FakeExternal:
    """Remembers what was registered; busy: what containers stand on."""

    def __init__(self) -> None:
        self.masks: dict[str, list[str]] = {}
        self.busy: set[str] = set()

    def register_external(
        self,
        name: ChainID,
        directories: Sequence[str],
        hidden: Sequence[str] = (),
        *,
        masks: str | None = None,
    ) -> None:
        self.masks[name] = list(hidden)

    def info(self, snapshot: SnapshotKey | ChainID) -> SnapshotInfo:
        if snapshot not in self.masks:
            raise NotFound(snapshot)
        return SnapshotInfo(snapshot, "committed", None, datetime.now(UTC))

    def remove(self, snapshot: SnapshotKey | ChainID) -> None:
        if snapshot in self.busy:
            raise Conflict(snapshot)
        del self.masks[snapshot]


def machine(root: Path) -> None:
    for name in (
        "bin/bash",
        "etc/shadow",
        "etc/shadow-",
        "etc/passwd",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
        "root/.ssh/id_rsa",
        "root/.bash_history",
        "root/.bashrc",
        "home/ann/.ssh/id_rsa",
        "home/ann/.aws/credentials",
        "home/ann/work/code.py",
        "var/lib/docker/secret",
        "var/lib/own/state.db",
        "tmp/x",
        "real/keys/key",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "home/ann/.gnupg").symlink_to(root / "real/keys")


def image(root: Path, snapshots: FakeExternal, state: MemoryState | None = None) -> HostImage:
    own = [str(root / "var/lib/own"), str(root / "missing"), str(root.parent)]
    return HostImage(snapshots, state or MemoryState(), PLATFORM, own=own, root=str(root))


def test_hides_the_secrets_and_nothing_else(tmp_path: Path) -> None:
    machine(tmp_path)
    assert image(tmp_path, FakeExternal()).hidden() == [
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/ssh/ssh_host_ed25519_key",
        "/home/ann/.aws",
        "/home/ann/.gnupg",
        "/home/ann/.ssh",
        "/real/keys",
        "/root/.bash_history",
        "/root/.ssh",
        "/tmp",
        "/var/lib/docker",
        "/var/lib/own",
    ]


async def test_a_new_secret_makes_a_new_mask(tmp_path: Path) -> None:
    machine(tmp_path)
    snapshots, state = FakeExternal(), MemoryState()
    host = image(tmp_path, snapshots, state)
    first = await host.image()
    assert (await host.image()).chain == first.chain
    assert first.chain is not None
    snapshots.busy.add(first.chain)
    (tmp_path / "home/bob/.ssh").mkdir(parents=True)
    second = await image(tmp_path, snapshots, state).image()
    assert second.id == first.id
    assert second.chain != first.chain
    assert set(snapshots.masks) == {first.chain, second.chain}
    snapshots.busy.clear()
    (tmp_path / "home/bob/.netrc").touch()
    third = await image(tmp_path, snapshots, state).image()
    assert set(snapshots.masks) == {third.chain}
    assert first.config.run.cmd == ("bash",)


def test_its_names(tmp_path: Path) -> None:
    host = image(tmp_path, FakeExternal())
    for name in ("host", "host:latest", host.id, host.id[7:], host.id[7:19]):
        assert host.is_named(name)
    for name in ("host:1", "hosts", "", host.id[7:10], "x/host"):
        assert not host.is_named(name)


def test_every_hidden_place_has_a_reason() -> None:
    for pattern, reason in HIDDEN.items():
        assert pattern.startswith(("/", "HOME/"))
        assert reason
