"""The virtual image `host`: this machine's own root as a read-only lower layer, its secrets hidden.

Nothing is stored, so nothing is listed, pulled, pushed or removed. Other file systems mounted below the root
are not in it. What is hidden is looked up at every resolve, and a machine with new secrets (a new user's
home) gets a new mask; containers made before keep theirs. A file that becomes a secret later, at a place that
no mask names, is seen: this image keeps secrets out of the way, it is no boundary between enemies.
"""

import asyncio
import glob
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from skiff.engine.images.record import Image
from skiff.engine.storage.snapshots import SnapshotInfo, SnapshotKey
from skiff.engine.storage.state import StateStore
from skiff.errors import AlreadyExists, Conflict, Forbidden, NotFound, NotImplementedHere
from skiff.oci import digest as digests
from skiff.oci import image as images
from skiff.oci.digest import ChainID, ImageID
from skiff.oci.image import ImageConfig, RootFS, RunConfig
from skiff.oci.platform import Platform

_log = logging.getLogger(__name__)

NAME = "host:latest"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SPELLINGS = {"host", NAME, "docker.io/library/host", "docker.io/library/host:latest", "library/host"}

# What is hidden → why. Patterns of glob(7); HOME stands for every home directory.
HIDDEN: dict[str, str] = {
    "/etc/shadow*": "password hashes",
    "/etc/gshadow*": "password hashes of groups",
    "/etc/security/opasswd": "former password hashes",
    "/etc/ssh/*_key": "the machine's identity for ssh",
    "/etc/ssl/private": "keys of TLS servers",
    "/etc/pki/*/private": "keys of TLS servers, Fedora's place",
    "/etc/letsencrypt": "keys of TLS servers, certbot's place",
    "/etc/krb5.keytab": "the machine's Kerberos keys",
    "/etc/wireguard": "keys of tunnels",
    "/etc/openvpn": "keys of tunnels",
    "/etc/ipsec.secrets": "keys of tunnels",
    "/etc/ppp/*-secrets": "passwords of dial-up peers",
    "/etc/NetworkManager/system-connections": "passwords of wireless networks",
    "/etc/wpa_supplicant": "passwords of wireless networks",
    "/etc/kubernetes": "keys of a cluster",
    "/etc/rancher": "keys of a cluster",
    "/etc/docker/key.json": "an engine's identity",
    "/etc/docker/certs.d": "client keys of registries",
    "/etc/mysql/debian.cnf": "a database's maintenance password",
    "/etc/crypttab*": "where keys of disks lie",
    "/etc/cryptsetup-keys.d": "keys of disks",
    "/etc/credstore*": "systemd's credentials",
    "/var/lib/systemd/random-seed": "the seed of future keys",
    "/var/lib/systemd/credential.secret": "the key of systemd's credentials",
    "/var/lib/sss": "cached passwords",
    "/var/lib/docker": "another engine's containers",
    "/var/lib/containerd": "another engine's containers",
    "/var/lib/containers": "another engine's containers",
    "/var/lib/kubelet": "secrets of pods",
    "/var/lib/rancher": "secrets of pods",
    "/var/lib/etcd": "secrets of a cluster",
    "/var/lib/skiff": "an engine's containers",
    "/var/lib/cloud": "user data of the cloud, often with passwords",
    "/var/backups": "copies of the password files",
    "/var/spool/cron": "commands of users, often with passwords",
    "/var/mail": "mail",
    "/var/spool/mail": "mail",
    "/tmp": "other people's work; a container begins with an empty one",
    "/var/tmp": "other people's work",
    "/run": "sockets and secrets of running services",
    "HOME/.ssh": "keys",
    "HOME/.gnupg": "keys",
    "HOME/.pki": "keys",
    "HOME/.docker": "logins of registries",
    "HOME/.aws": "cloud credentials",
    "HOME/.azure": "cloud credentials",
    "HOME/.oci": "cloud credentials",
    "HOME/.boto": "cloud credentials",
    "HOME/.s3cfg": "cloud credentials",
    "HOME/.config/gcloud": "cloud credentials",
    "HOME/.config/rclone": "cloud credentials",
    "HOME/.config/doctl": "cloud credentials",
    "HOME/.config/gh": "a token of GitHub",
    "HOME/.config/hub": "a token of GitHub",
    "HOME/.config/containers/auth.json": "logins of registries",
    "HOME/.config/pypoetry/auth.toml": "a token of a package registry",
    "HOME/.kube": "keys of clusters",
    "HOME/.vault-token": "a token",
    "HOME/.terraform.d": "tokens",
    "HOME/.netrc": "passwords",
    "HOME/.authinfo*": "passwords",
    "HOME/.git-credentials": "passwords",
    "HOME/.config/git/credentials": "passwords",
    "HOME/.pypirc": "a token of a package registry",
    "HOME/.npmrc": "a token of a package registry",
    "HOME/.yarnrc*": "a token of a package registry",
    "HOME/.gem/credentials": "a token of a package registry",
    "HOME/.cargo/credentials*": "a token of a package registry",
    "HOME/.m2/settings*.xml": "passwords of package registries",
    "HOME/.pgpass": "passwords of databases",
    "HOME/.my.cnf": "passwords of databases",
    "HOME/.mylogin.cnf": "passwords of databases",
    "HOME/.password-store": "passwords",
    "HOME/.local/share/keyrings": "passwords",
    "HOME/.mozilla": "sessions and passwords of a browser",
    "HOME/.config/google-chrome": "sessions and passwords of a browser",
    "HOME/.config/chromium": "sessions and passwords of a browser",
    "HOME/.thunderbird": "mail",
    "HOME/.Xauthority": "the key of a screen",
    "HOME/.ICEauthority": "the key of a session",
    "HOME/.*_history": "what was typed, often with passwords",
    "HOME/.history": "what was typed",
    "HOME/.viminfo": "what was typed",
    "HOME/.lesshst": "what was typed",
    "HOME/.local/share/fish/fish_history": "what was typed",
    "HOME/.cache": "copies of what was fetched, perhaps with credentials",
}
HOMES = ("/root", "/home/*")
_SHARED_MEMORY = "/dev/shm/skiff-masks"


class ExternalSnapshots(Protocol):
    """A snapshotter that can stand on a directory of the host."""

    def register_external(
        self,
        name: ChainID,
        directories: Sequence[str],
        hidden: Sequence[str] = (),
        *,
        masks: str | None = None,
    ) -> None: ...
    def info(self, snapshot: SnapshotKey | ChainID) -> SnapshotInfo: ...
    def remove(self, snapshot: SnapshotKey | ChainID) -> None: ...


class Mask(Struct, frozen=True):
    """A mask that was laid over this machine's root, as stored under its snapshot's name.

    masks: the directory that it lies in, which a restart of the machine may empty.
    """

    root: str
    hidden: tuple[str, ...]
    masks: str


class HostImage:
    """own: directories of this engine, hidden too. root: what is the machine's root; another one in tests."""

    def __init__(
        self,
        snapshots: ExternalSnapshots,
        state: StateStore,
        platform: Platform,
        *,
        own: Iterable[str] = (),
        root: str = "/",
    ) -> None:
        self._snapshots = snapshots
        self._masks = state.table("host_mask", Mask)
        self._own = tuple(own)
        self._root = root
        self._candidates = [f"{one}/masks" for one in self._own]
        # everybody may write there: a name that nobody can take before us
        self._candidates.append(f"{_SHARED_MEMORY}-{secrets.token_hex(8)}")
        shell = next((one for one in ("bash", "sh") if os.path.exists(os.path.join(root, "bin", one))), "sh")
        self._config = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            config=RunConfig(env=(PATH,), cmd=(shell,), working_dir="/"),
            rootfs=RootFS(),
        )
        self.id = ImageID(digests.of(images.encode(self._config)))
        for id, mask in self._masks.all():
            try:
                self._lay(ChainID(id), mask)
            except (Forbidden, OSError) as error:  # its containers will not start; the engine must
                _log.warning("the mask of the image host in %s cannot be made: %s", mask.masks, error)

    def is_named(self, name: str) -> bool:
        """Whether name means this image: by name, by id or by a beginning of its id that is long enough."""
        hexadecimal = name.removeprefix("sha256:")
        return name in _SPELLINGS or (len(hexadecimal) >= 12 and self.id.startswith(hexadecimal, 7))

    async def image(self) -> Image:
        """The image, with a mask that fits the machine as it is now."""
        chain = await asyncio.to_thread(self._masked)
        return Image(id=self.id, config=self._config, chain=chain, name=NAME)

    def chains(self) -> list[ChainID]:
        """The snapshots that masks are: nothing else leads to them."""
        return [ChainID(id) for id, _ in self._masks.all()]

    def hidden(self) -> list[str]:
        """The paths to hide, within the root, sorted; none lies below another."""
        found: set[str] = set()
        for pattern in HIDDEN:
            homes = HOMES if pattern.startswith("HOME/") else ("",)
            for home in homes:
                found.update(self._glob(pattern.replace("HOME", home, 1) if home else pattern))
        for path in (*self._own, *_swap_files()):
            where = os.path.realpath(path)
            if os.path.lexists(where) and self._within(where):
                found.add("/" + os.path.relpath(where, self._root))
        return _outermost(found)

    def _masked(self) -> ChainID:
        hidden = self.hidden()
        name = ChainID(digests.of("\0".join(["host", self._root, *hidden]).encode()))
        try:
            self._snapshots.info(name)
            return name
        except NotFound:
            pass
        mask = Mask(self._root, tuple(hidden), self._place())
        self._masks.put(name, mask)  # the wish before the act: a crash leaves a row to clear away
        self._lay(name, mask)
        self._clear(except_for=name)
        return name

    def _lay(self, name: ChainID, mask: Mask) -> None:
        """Make what of the mask is missing."""
        _own_directory(mask.masks)
        try:
            self._snapshots.register_external(name, [mask.root], mask.hidden, masks=mask.masks)
        except AlreadyExists:
            pass

    def _place(self) -> str:
        """Where masks can lie: beside the root's file system, for overlayfs refuses a layer in a layer."""
        for _, mask in self._masks.all():
            if mask.root == self._root and os.path.isdir(mask.masks):
                return mask.masks
        device = os.stat(self._root).st_dev
        for candidate in self._candidates:
            parent = os.path.realpath(os.path.dirname(candidate))
            within = self._root == "/" or parent.startswith(self._root + "/")
            if os.path.isdir(parent) and not (within and os.stat(parent).st_dev == device):
                return candidate
        raise NotImplementedHere(
            "the image host needs a file system beside the root's for its mask, such as a tmpfs on /dev/shm"
        )

    def _clear(self, except_for: ChainID) -> None:
        """Masks that no container stands on go."""
        for id, mask in self._masks.all():
            if id == except_for:
                continue
            try:
                self._snapshots.remove(ChainID(id))
            except Conflict:
                continue
            except NotFound:
                pass
            shutil.rmtree(f"{mask.masks}/{digests.encoded(id)}", ignore_errors=True)
            self._masks.delete(id)

    def _glob(self, pattern: str) -> list[str]:
        """Matches within the root, symbolic links on the way resolved: a mask hides places, not names."""
        places = []
        for match in glob.glob(glob.escape(self._root.rstrip("/")) + pattern, include_hidden=True):
            parent = os.path.realpath(os.path.dirname(match))
            place = os.path.join(parent, os.path.basename(match))
            for one in {place, os.path.realpath(place)}:
                if os.path.lexists(one) and self._within(one):
                    places.append("/" + os.path.relpath(one, self._root))
        return places

    def _within(self, path: str) -> bool:
        """On the root's own file system: what is mounted elsewhere is not in the image anyway."""
        if self._root != "/" and not path.startswith(self._root + "/"):
            return False
        try:
            return os.lstat(path).st_dev == os.lstat(self._root).st_dev
        except OSError:
            return False


def _own_directory(path: str) -> None:
    """Make it, or make sure that nobody else made it. Forbidden."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise Forbidden(f"{path} is not a directory of ours: remove it") from None


def _swap_files() -> list[str]:
    try:
        with open("/proc/swaps") as table:
            return [line.split()[0] for line in table.readlines()[1:] if line.split()[1:2] == ["file"]]
    except OSError:
        return []


def _outermost(paths: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda one: one.split("/")):
        if not (kept and path.startswith(kept[-1] + "/")):
            kept.append(path)
    return kept
