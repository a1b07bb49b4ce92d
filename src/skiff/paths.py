"""Every path skiff writes, in one place.

Two roots: `data` outlives a boot of the machine (images, containers, volumes), `run` does not (sockets,
running tasks). Described to the byte in docs/on-disk.md.
"""

from pathlib import PurePosixPath as Path
from typing import Final

DATA_ROOT: Final = Path("/var/lib/skiff")
EXEC_ROOT: Final = Path("/run/skiff")
CONFIG_FILE: Final = Path("/etc/skiff/daemon.json")
DOCKER_SOCKET: Final = Path("/var/run/docker.sock")  # with --docker-socket, and only if it is free
DOCKER_CONFIG_FILE: Final = Path("/etc/docker/daemon.json")


class DataPaths:
    """Below the data root."""

    def __init__(self, root: str | Path = DATA_ROOT) -> None:
        self.root = Path(root)
        self.state = self.root / "state.db"
        self.content = self.root / "content"
        self.snapshots = self.root / "snapshots"
        self.containers = self.root / "containers"
        self.volumes = self.root / "volumes"
        self.new_volumes = self.root / "new-volumes"
        self.trash = self.root / "trash"
        self.removed_volumes = self.root / "removed-volumes"
        self.tmp = self.root / "tmp"
        self.builds = self.root / "builds"
        self.build_contexts = self.root / "build-contexts"
        self.build_caches = self.root / "build-caches"
        self.engine_id = self.root / "engine-id"
        self.front = self.root / "front"

    def container(self, id: str) -> Path:
        """hosts, hostname, resolv.conf and the log of one container."""
        return self.containers / id

    def log(self, id: str) -> Path:
        """The json-file log, named as Docker names it: tools symlink to it."""
        return self.containers / id / f"{id}-json.log"


class RunPaths:
    """Below the exec root."""

    def __init__(self, root: str | Path = EXEC_ROOT) -> None:
        self.root = Path(root)
        self.socket = self.root / "skiff.sock"
        self.pid = self.root / "skiffd.pid"
        self.command_line = self.root / "command-line.sock"
        self.tasks = self.root / "tasks"
        self.netns = self.root / "netns"

    def task(self, id: str) -> Path:
        """The bundle of a running container: config.json, monitor.sock, status.json, rootfs/."""
        return self.tasks / id
