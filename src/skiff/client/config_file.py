"""~/.docker/config.json: what the user settled once. Only `login` and `logout` write it, through `save`.

A missing file is an empty one. Credentials are in client/credentials.py, loaded when a registry is spoken to.
"""

from __future__ import annotations

from skiff.client import json_text
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class ConfigFile:
    """`values` is the file as it stands; the properties are what commands ask for.

    trouble: why the file could not be read; it then counts as empty and is not written.
    """

    def __init__(self, folder: str, values: dict[str, Any], trouble: str = "") -> None:
        self.folder = folder
        self.values = values
        self.trouble = trouble

    @classmethod
    def load(cls, folder: str) -> ConfigFile:
        path = f"{folder}/config.json"
        try:
            with open(path, "rb") as file:
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return cls(folder, {})
        except OSError as error:
            return cls(folder, {}, f"loading config file: open {path}: {(error.strerror or '').lower()}")
        try:
            values = json_text.decode(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            return cls(folder, {}, f"parsing config file ({path}): {error}")
        if misshapen := _misshapen(values):
            return cls(folder, {}, f"parsing config file ({path}): {misshapen}")
        return cls(folder, values)

    @property
    def http_headers(self) -> dict[str, str]:
        return {name: value or "" for name, value in (self.values.get("HttpHeaders") or {}).items()}

    @property
    def current_context(self) -> str:
        return str(self.values.get("currentContext") or "")

    @property
    def detach_keys(self) -> str:
        return str(self.values.get("detachKeys") or "")

    @property
    def path(self) -> str:
        return f"{self.folder}/config.json"

    def save(self) -> None:
        """Write the file: whole or not at all, for its owner only. Raises InvalidParameter.

        What we do not know in it stays as it is. Where it is a symbolic link, its target is written.
        """
        import json
        import os

        if self.trouble:
            raise InvalidParameter(f"will not write over what cannot be read: {self.trouble}")
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            target = os.path.realpath(self.path)
            part = f"{target}.{os.getpid()}.part"
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(fd, "w") as file:
                    json.dump(self.values, file, indent="\t", ensure_ascii=False)
                    file.flush()
                    os.fsync(fd)
                os.rename(part, target)
            except BaseException:
                os.unlink(part)
                raise
        except OSError as error:
            raise InvalidParameter(f"saving config file: {self.path}: {error.strerror}") from error

    def format(self, what: str) -> str:
        """psFormat, imagesFormat, networksFormat, volumesFormat, statsFormat: "" when unset."""
        return str(self.values.get(f"{what}Format") or "")

    def has_feature(self, name: str, *, default: bool) -> bool:
        """features: {"name": "true"}."""
        value = (self.values.get("features") or {}).get(name)
        return default if value is None else str(value).lower() in ("1", "true")

    def proxies(self, host: str) -> dict[str, str]:
        """Variables for containers and builds: those of this engine's host, else of "default"."""
        table = self.values.get("proxies") or {}
        chosen = table.get(host) or table.get("default") or {}
        found = {}
        for key, name in (
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ):
            if chosen.get(key):
                found[name] = found[name.lower()] = str(chosen[key])
        return found


_TEXTS = ("credsStore", "currentContext", "detachKeys")
_TABLES = {"auths": dict, "credHelpers": str, "HttpHeaders": str, "proxies": dict, "features": (str, bool)}


def _misshapen(values: object) -> str:
    """What in the file is not of the kind that the readers of `values` rely on; empty when all is. Pure."""
    if not isinstance(values, dict):
        return "expected an object"
    for name in _TEXTS:
        if not isinstance(values.get(name), str | None):
            return f"{name}: expected a string"
    for name, kind in _TABLES.items():
        table = values.get(name)
        if table is None:
            continue
        if not isinstance(table, dict):
            return f"{name}: expected an object"
        for key, entry in table.items():
            if entry is not None and not isinstance(entry, kind):  # type: ignore[arg-type]
                return f"{name}: {key}: not of the kind expected"
            if isinstance(entry, dict) and not all(isinstance(one or "", str) for one in entry.values()):
                return f"{name}: {key}: expected strings"
    return ""


def config_folder(flag: str, env: Callable[[str], str]) -> str:
    """--config, DOCKER_CONFIG, or ~/.docker."""
    return flag or env("DOCKER_CONFIG") or f"{home(env)}/.docker"


def home(env: Callable[[str], str]) -> str:
    if found := env("HOME"):
        return found
    import posix
    import pwd

    try:
        return pwd.getpwuid(posix.getuid()).pw_dir
    except KeyError:
        return "/"
