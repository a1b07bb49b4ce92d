"""RUN --mount: bind, cache, tmpfs, secret, ssh. What must exist on the host while the command runs.

bind    a directory of a context as it is; layers, or one that is written to, as an overlay of its own
cache   a directory that is kept from build to build (cache_mounts.py)
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from skiff.engine.builds.agents import Agent, listening
from skiff.engine.builds.cache_mounts import CacheMounts
from skiff.engine.builds.filesystem import FileSystem
from skiff.engine.builds.plan import ExecMount, OpIndex
from skiff.engine.builds.running import MountPoint
from skiff.engine.builds.scratch import discard
from skiff.engine.builds.tree import seen
from skiff.engine.storage.overlay import escape
from skiff.errors import InvalidParameter, NotFound
from skiff.linux import mounts as kernel
from skiff.oci.runtime import Mount

Stack = Callable[[FileSystem], Sequence[str]]
Ready = tuple[Mount, MountPoint]


class Mounter:
    """scratch: for what lasts as long as one command."""

    def __init__(self, caches: CacheMounts, scratch: str) -> None:
        self._caches = caches
        self._scratch = scratch

    @asynccontextmanager
    async def ready(
        self,
        wanted: Sequence[ExecMount],
        inputs: Mapping[OpIndex, FileSystem],
        stack: Stack,
        given: Mapping[str, bytes],
        agents: Collection[str] = (),
        agent: Agent | None = None,
    ) -> AsyncIterator[tuple[list[Ready], dict[str, str]]]:
        """The mounts, and the variables that secrets are. given: secrets by id. agents: ids that agent takes.

        InvalidParameter, NotFound.
        """
        found: list[Ready] = []
        variables: dict[str, str] = {}
        async with AsyncExitStack() as held:
            scratch = f"{self._scratch}/mounts-{secrets.token_hex(6)}"
            os.makedirs(scratch, mode=0o711)
            held.push_async_callback(asyncio.to_thread, discard, scratch)
            for number, mount in enumerate(wanted):
                place = f"{scratch}/{number}"
                match mount.kind:
                    case "tmpfs":
                        size = (f"size={mount.size_bytes}",) if mount.size_bytes else ()
                        options = ("nosuid", "nodev", *size)
                        found.append(
                            (Mount(mount.target, "tmpfs", "tmpfs", options), MountPoint(mount.target))
                        )
                    case "secret":
                        self._secret(mount, given, place, found, variables)
                    case "ssh":
                        if agent is not None and (mount.id or "default") in agents:
                            await held.enter_async_context(listening(mount, place, agent))
                            bind = Mount(mount.target, "bind", place, ("rbind", "rprivate"))
                            found.append((bind, MountPoint(mount.target, is_file=True)))
                            variables.setdefault("SSH_AUTH_SOCK", mount.target)
                        elif mount.required:
                            raise NotFound(
                                f"unset ssh forward key {mount.id or 'default'}: give it with --ssh"
                            )
                    case "cache":
                        found.append(await held.enter_async_context(self._cache(mount, inputs, stack)))
                    case "bind":
                        assert mount.origin is not None
                        directories = stack(inputs[mount.origin])
                        source = await asyncio.to_thread(_bound, mount, directories, place)
                        if source.startswith(place):
                            held.callback(_unmount, f"{place}/root")
                        is_file = not os.path.isdir(source)
                        access = "ro" if mount.read_only else "rw"
                        made = Mount(mount.target, "bind", source, ("rbind", "rprivate", access))
                        found.append((made, MountPoint(mount.target, is_file)))
            yield found, variables

    def _secret(
        self,
        mount: ExecMount,
        given: Mapping[str, bytes],
        place: str,
        found: list[Ready],
        variables: dict[str, str],
    ) -> None:
        value = given.get(mount.id)
        if value is None:
            if mount.required:
                raise NotFound(f"secret {mount.id}: not found")
            return
        if mount.env:
            variables[mount.env] = value.decode("utf-8", "surrogateescape")
        if mount.target:
            mode = 0o400 if mount.mode is None else mount.mode
            fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                os.fchown(fd, mount.uid, mount.gid)
                os.fchmod(fd, mode)
                file.write(value)
            options = ("rbind", "rprivate", "ro")
            found.append(
                (Mount(mount.target, "bind", place, options), MountPoint(mount.target, is_file=True))
            )

    @asynccontextmanager
    async def _cache(
        self, mount: ExecMount, inputs: Mapping[OpIndex, FileSystem], stack: Stack
    ) -> AsyncIterator[Ready]:
        below = stack(inputs[mount.origin]) if mount.origin is not None else ()
        async with self._caches.held(mount, below) as path:
            options = ("rbind", "rprivate", "ro" if mount.read_only else "rw")
            yield Mount(mount.target, "bind", path, options), MountPoint(mount.target)


def _bound(mount: ExecMount, directories: Sequence[str], place: str) -> str:
    """Where the host sees what is to be bound; an overlay is mounted below place where it takes one."""
    if not directories:
        raise InvalidParameter(f"invalid mount {mount.target}: its source is empty")
    with seen(directories) as tree:
        status = tree.status(mount.source or "/")
        if status is None:
            raise InvalidParameter(f"invalid mount {mount.target}: {mount.source}: not found")
        inside = tree.canonical(mount.source or "/")
    if len(directories) == 1 and mount.read_only:
        return directories[0] + inside.rstrip("/")
    os.mkdir(place, 0o711)
    root = f"{place}/root"
    for name in ("root", "upper", "work"):
        os.mkdir(f"{place}/{name}", 0o755)
    options = [f"lowerdir={':'.join(map(escape, directories))}"]
    if not mount.read_only:
        options += [f"upperdir={escape(place)}/upper", f"workdir={escape(place)}/work"]
    attributes = kernel.MOUNT_ATTR_RDONLY if mount.read_only else 0
    fd = kernel.new_overlay(options, attributes)
    try:
        kernel.attach(fd, root)
    finally:
        os.close(fd)
    return root + inside.rstrip("/")


def _unmount(path: str) -> None:
    with suppress(OSError):
        kernel.unmount(path)


def recover(scratch: str) -> None:
    """At boot: mounts and files that a crash left below scratch."""
    with suppress(FileNotFoundError):
        for name in os.listdir(scratch):
            if name.startswith("mounts-"):
                for number in os.listdir(f"{scratch}/{name}"):
                    _unmount(f"{scratch}/{name}/{number}/root")
                discard(f"{scratch}/{name}")
