"""Contexts: engines by name, in Docker's own files, so that both command lines know the same ones.

    contexts/meta/<sha256 of the name>/meta.json                   Name, Metadata, Endpoints
    contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem

Exported, a context is a tar of meta.json and tls/docker/*.pem; a zip of these can be read, too.
"""

from __future__ import annotations

import posix

from skiff.client import json_text
from skiff.client.endpoint import DEFAULT_HOST, Endpoint, TlsFiles
from skiff.errors import Conflict, InvalidParameter, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Json = dict[str, Any]

DEFAULT = "default"
TLS_FILES = ("ca.pem", "cert.pem", "key.pem")
LARGEST = 10 << 20  # bytes of one file in an archive
PRIVATE, PUBLIC = 0o600, 0o644
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class Context:
    """meta: meta.json as it stands, with whatever others put there. tls: file name → PEM."""

    __slots__ = ("meta", "tls")

    def __init__(self, meta: Json, tls: Mapping[str, bytes] | None = None) -> None:
        self.meta = meta
        self.tls = dict(tls or {})

    @property
    def docker(self) -> Json:
        """Endpoints.docker: Host, SkipTLSVerify."""
        return (self.meta.get("Endpoints") or {}).get("docker") or {}

    @property
    def description(self) -> str:
        return str((self.meta.get("Metadata") or {}).get("Description") or "")


def made(name: str, description: str, host: str, *, skip_verify: bool = False) -> Context:
    metadata = {"Description": description} if description else {}
    docker = {"Host": host, "SkipTLSVerify": skip_verify}
    return Context({"Name": name, "Metadata": metadata, "Endpoints": {"docker": docker}})


def check_name(name: str) -> None:
    """Raises InvalidParameter."""
    if not name:
        raise InvalidParameter("context name cannot be empty")
    if name == DEFAULT:
        raise InvalidParameter('"default" is a reserved context name')
    rest = name[1:].translate(dict.fromkeys(map(ord, "_.+-")))
    if name[0] not in _LETTERS or not name[1:] or not _LETTERS.issuperset(rest):
        raise InvalidParameter(
            f'context name "{name}" is invalid, names are validated against regexp '
            '"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"'
        )


class Store:
    """The contexts in a configuration folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def meta_path(self, name: str) -> str:
        return f"{self.folder}/contexts/meta/{_id(name)}"

    def tls_path(self, name: str) -> str:
        return f"{self.folder}/contexts/tls/{_id(name)}"

    def names(self) -> list[str]:
        """Sorted. Raises InvalidParameter for a file that is no context."""
        try:
            ids = posix.listdir(f"{self.folder}/contexts/meta")
        except OSError:
            return []
        files = (f"{self.folder}/contexts/meta/{id}/meta.json" for id in ids)
        return sorted(_named(_meta(path), path) for path in files if _exists(path))

    def has(self, name: str) -> bool:
        return _exists(f"{self.meta_path(name)}/meta.json")

    def read(self, name: str) -> Context:
        """Raises NotFound, InvalidParameter."""
        path = f"{self.meta_path(name)}/meta.json"
        try:
            meta = _meta(path)
        except FileNotFoundError:
            raise NotFound(
                f'context "{name}": context not found: open {path}: no such file or directory'
            ) from None
        _named(meta, path)
        tls = {}
        for file in TLS_FILES:
            try:
                with open(f"{self.tls_path(name)}/docker/{file}", "rb") as opened:
                    tls[file] = opened.read()
            except OSError:
                continue
        return Context(meta, tls)

    def endpoint(self, name: str) -> Endpoint:
        """Where that context's engine is. Raises NotFound, InvalidParameter."""
        context = self.read(name)
        skip = bool(context.docker.get("SkipTLSVerify"))
        tls = None
        if skip or context.tls:
            folder = f"{self.tls_path(name)}/docker"
            paths = [f"{folder}/{file}" if file in context.tls else "" for file in TLS_FILES]
            tls = TlsFiles(*paths, verify=not skip)
        return Endpoint(context.docker.get("Host") or DEFAULT_HOST, tls=tls)

    def write(self, context: Context) -> None:
        """New, or in place of the one of that name. Raises InvalidParameter when the disk refuses."""
        import os
        import shutil

        name = context.meta["Name"]
        meta, tls = self.meta_path(name), f"{self.tls_path(name)}/docker"
        try:
            os.makedirs(meta, mode=0o755, exist_ok=True)
            _put(f"{meta}/meta.json", json_text.encode(context.meta), PUBLIC)
            shutil.rmtree(self.tls_path(name), ignore_errors=True)
            if context.tls:
                os.makedirs(tls, mode=0o700)
            for file, data in context.tls.items():
                _put(f"{tls}/{file}", data, PRIVATE)
        except OSError as error:
            raise InvalidParameter(
                f"cannot write context {name}: {error.filename}: {error.strerror}"
            ) from error

    def create(self, context: Context) -> None:
        """Raises Conflict, InvalidParameter."""
        name = context.meta["Name"]
        check_name(name)
        if self.has(name):
            raise Conflict(f'context "{name}" already exists')
        self.write(context)

    def remove(self, name: str) -> None:
        import shutil

        for folder in (self.meta_path(name), self.tls_path(name)):
            shutil.rmtree(folder, ignore_errors=True)


def exported(context: Context) -> bytes:
    """The context as a tar."""
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def add(name: str, data: bytes, mode: int, kind: bytes = tarfile.REGTYPE) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.type = len(data), mode, kind
            tar.addfile(entry, io.BytesIO(data))

        add("meta.json", json_text.encode(context.meta), PUBLIC)
        add("tls", b"", 0o700, tarfile.DIRTYPE)
        if context.tls:
            add("tls/docker", b"", 0o700, tarfile.DIRTYPE)
        for file, data in context.tls.items():
            add(f"tls/docker/{file}", data, PRIVATE)
    return out.getvalue()


def imported(data: bytes, name: str) -> Context:
    """The context in a tar or a zip, under a name of its own. Raises InvalidParameter."""
    files = _unpacked(data)
    if "meta.json" not in files:
        raise InvalidParameter("invalid context: no metadata found")
    try:
        meta = json_text.decode(files["meta.json"])
    except ValueError as error:
        raise InvalidParameter(f"invalid context: meta.json: {error}") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("Endpoints", {}), dict):
        raise InvalidParameter("invalid context: meta.json: expected an object")
    prefix = "tls/docker/"
    tls = {path.removeprefix(prefix): pem for path, pem in files.items() if path.startswith(prefix)}
    strange = sorted(tls.keys() - set(TLS_FILES))
    if strange:
        raise InvalidParameter(f"invalid context: unexpected file {prefix}{strange[0]}")
    return Context(meta | {"Name": name}, tls)


def _unpacked(data: bytes) -> dict[str, bytes]:
    """Path → content of the regular files in a tar or a zip."""
    import io
    import tarfile
    import zipfile
    import zlib

    found: dict[str, bytes] = {}
    try:
        if data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for one in archive.infolist():
                    _check_size(one.filename, one.file_size)
                    if not one.is_dir():
                        with archive.open(one) as opened:
                            found[one.filename] = opened.read(LARGEST)
            return found
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for entry in tar:
                _check_size(entry.name, entry.size)
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is not None:
                    found[entry.name] = content.read()
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
        if not found and isinstance(error, tarfile.ReadError):
            return {}  # no tar at all: it has no metadata
        raise InvalidParameter(f"invalid context: {error}") from None
    except (
        ValueError,
        RuntimeError,
        OverflowError,
    ) as error:  # fields that make no sense; a zip with a password
        raise InvalidParameter(f"invalid context: {error}") from None
    return found


def _check_size(name: str, size: int) -> None:
    if size > LARGEST:
        raise InvalidParameter(f"invalid context: {name} is larger than {LARGEST >> 20} MiB")


def _id(name: str) -> str:
    import hashlib

    return hashlib.sha256(name.encode()).hexdigest()


def _meta(path: str) -> Any:
    with open(path, "rb") as file:
        text = file.read()
    try:
        return json_text.decode(text)
    except ValueError as error:
        raise InvalidParameter(f"{path}: malformed context: {error}") from error


def _named(meta: Any, path: str) -> str:
    if not isinstance(meta, dict) or not isinstance(meta.get("Name"), str):
        raise InvalidParameter(f"{path}: malformed context: expected an object with a Name")
    return str(meta["Name"])


def _put(path: str, data: bytes, mode: int) -> None:
    """Whole or not at all."""
    import os

    part = f"{path}.{os.getpid()}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.rename(part, path)


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True
