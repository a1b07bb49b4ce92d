"""The local volume driver: a directory, or whatever mount(2) can put over one.

Options are those of mount(8), all three or none: type (`none`, `tmpfs`, `nfs`, `ext4`…), device, and o, the
comma-separated rest; or `size` alone, for a file system of that size in a file. Such a mount is made when the
first container starts and undone after the last.
"""

import errno
import ipaddress
import os
import re
import shutil
import socket
from collections.abc import Mapping
from typing import Final

from skiff.docker import units
from skiff.docker.volume import Volume
from skiff.engine.volumes import copying, loop
from skiff.errors import Conflict, InvalidParameter, NotFound, SkiffError
from skiff.linux import mounts, trees
from skiff.paths import DataPaths

NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
NEEDS: Final = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
RESOLVED: Final = ("nfs", "nfs4", "cifs")  # the kernel wants addr= as a number


class LocalDriver:
    """See VolumeDriver."""

    name = "local"

    def __init__(self, data: DataPaths) -> None:
        self.root = str(data.volumes)
        self._new = str(data.new_volumes)
        self._retired = str(data.removed_volumes)

    def check(self, name: str, options: Mapping[str, str]) -> None:
        if len(name) == 1:
            raise InvalidParameter(
                "volume name is too short, names should be at least two alphanumeric characters"
            )
        if not NAME.fullmatch(name):
            raise InvalidParameter(
                f'"{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
                "use absolute path"
            )
        for option in options:
            if option == "size":
                loop.check(units.parse_size(options["size"]))
                if options.get("device"):
                    raise InvalidParameter(
                        "the option size is for volumes of this engine's own: with a device give o=size=…"
                    )
                continue
            if option not in NEEDS:
                raise InvalidParameter(f'invalid option: "{option}"')
        for option, needed in NEEDS.items():
            for other in needed:
                if options.get(option) and not options.get(other):
                    raise InvalidParameter(f'missing required option: "{other}"')

    def create(self, name: str, options: Mapping[str, str]) -> str:
        os.makedirs(self.root, mode=0o701, exist_ok=True)
        target = self.place(name)
        os.makedirs(os.path.dirname(target), mode=0o701, exist_ok=True)
        os.makedirs(target, mode=0o755, exist_ok=True)
        if options.get("size"):
            try:
                loop.create(self._image(name), units.parse_size(options["size"]), target)
            except BaseException:
                shutil.rmtree(f"{self.root}/{name}", ignore_errors=True)
                raise
        return target

    def _image(self, name: str) -> str:
        return f"{self.root}/{name}/image"

    def draft(self, name: str) -> str:
        os.makedirs(f"{self._new}/{name}", mode=0o701)
        return f"{self._new}/{name}/_data"

    def appear(self, name: str) -> None:
        os.makedirs(self.root, mode=0o701, exist_ok=True)
        try:
            os.rename(f"{self._new}/{name}", f"{self.root}/{name}")
        except OSError as error:  # not empty: a directory without a volume
            raise Conflict(f"{self.root}/{name} is in the way") from error

    def abandon(self, name: str) -> None:
        _delete(f"{self._new}/{name}")

    def drafts(self) -> set[str]:
        return set(os.listdir(self._new)) if os.path.isdir(self._new) else set()

    def remove(self, volume: Volume) -> None:
        self.unmount(volume)
        # Whatever lies behind a mount is somebody else's.
        if _is_mounted(volume.mountpoint):
            raise Conflict(f"remove {volume.name}: {volume.mountpoint} is still mounted")
        _delete(f"{self.root}/{volume.name}")

    def retire(self, volume: Volume, key: str) -> None:
        self.unmount(volume)
        if volume.options and _is_mounted(volume.mountpoint):
            raise Conflict(f"remove {volume.name}: {volume.mountpoint} is still mounted")
        os.makedirs(self._retired, mode=0o700, exist_ok=True)
        try:
            os.rename(f"{self.root}/{volume.name}", f"{self._retired}/{key}")
        except FileNotFoundError:  # somebody deleted it by hand: the volume can still be removed
            os.mkdir(f"{self._retired}/{key}", 0o701)

    def revive(self, volume: Volume, key: str) -> None:
        os.makedirs(self.root, mode=0o701, exist_ok=True)
        try:
            os.rename(f"{self._retired}/{key}", f"{self.root}/{volume.name}")
        except FileNotFoundError as error:
            raise NotFound(f"the files of volume {volume.name} are gone") from error
        except OSError as error:  # not empty: a directory without a volume
            raise Conflict(f"{self.root}/{volume.name} is in the way") from error
        os.makedirs(volume.mountpoint, mode=0o755, exist_ok=True)

    def expunge(self, key: str) -> None:
        _delete(f"{self._retired}/{key}")

    def retired(self) -> set[str]:
        return set(os.listdir(self._retired)) if os.path.isdir(self._retired) else set()

    def retired_bytes(self, key: str) -> int:
        return copying.size(f"{self._retired}/{key}")

    def place(self, name: str) -> str:
        return f"{self.root}/{name}/_data"

    def held(self) -> set[str]:
        if not os.path.isdir(self.root):
            return set()
        return {name for name in os.listdir(self.root) if os.path.isdir(self.place(name))}

    def has(self, volume: Volume) -> bool:
        return os.path.isdir(f"{self.root}/{volume.name}")

    def mount(self, volume: Volume) -> str:
        options = volume.options or {}
        if options.get("size"):
            loop.mount(self._image(volume.name), volume.mountpoint)
            return volume.mountpoint
        if options.get("device") and not _is_mounted(volume.mountpoint):
            try:
                _mount(options, volume.mountpoint)
            except OSError as error:
                absent = f": this kernel has no {options['type']}" if error.errno == errno.ENODEV else ""
                raise SkiffError(
                    f"failed to mount local volume: mount {options['device']}:{volume.mountpoint}, "
                    f"data: {options.get('o', '')}: {(error.strerror or str(error)).lower()}{absent}"
                ) from error
        return volume.mountpoint

    def unmount(self, volume: Volume) -> None:
        if volume.options and _is_mounted(volume.mountpoint):
            mounts.unmount(volume.mountpoint)


def _is_mounted(path: str) -> bool:
    """Asks the mount table: os.path.ismount does not see a bind of the same file system."""
    wanted = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(_unescaped(line.split(" ", 5)[4]) == wanted for line in table)


def _unescaped(text: str) -> str:
    """A path of mountinfo(5), where blanks and backslashes are octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _mount(options: Mapping[str, str], target: str) -> None:
    kind, device = options["type"], options["device"]
    parsed = mounts.parse(option for option in options.get("o", "").split(",") if option)
    data = ",".join(_resolved(entry) if kind in RESOLVED else entry for entry in parsed.data)
    mounts.mount(device, target, kind, parsed.flags, data)
    if parsed.flags & mounts.MS_BIND and parsed.flags & ~(mounts.MS_BIND | mounts.MS_REC):
        # A bind takes its other flags only in a second step. mount(2), "Creating a bind mount".
        mounts.mount(None, target, None, parsed.flags | mounts.MS_REMOUNT)
    for propagation in parsed.propagation:
        mounts.set_propagation(target, propagation)


def _resolved(entry: str) -> str:
    """`addr=server` with the server's number."""
    key, equals, host = entry.partition("=")
    if key != "addr" or not equals:
        return entry
    try:
        return f"addr={ipaddress.ip_address(host)}"
    except ValueError:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return f"addr={found[0][4][0]}"


def _delete(path: str) -> None:
    """Conflict when something is mounted anywhere below."""
    try:
        trees.remove(path)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EBUSY):
            raise
        raise Conflict(f"remove {path}: something is mounted in it") from error
