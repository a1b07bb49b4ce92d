"""Which engine? The first of these that says:

    -H · --context · SKIFF_HOST · DOCKER_HOST · DOCKER_CONTEXT · currentContext of config.json · unix:///run/skiff/skiff.sock

SKIFF_HOST stands before DOCKER_HOST so that both command lines can be used on one machine.
"""

from __future__ import annotations

import posix

from skiff.client import json_text
from skiff.client.endpoint import DEFAULT_HOST, Endpoint, TlsFiles
from skiff.errors import InvalidParameter, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from skiff.client.config_file import ConfigFile

    class Flags(Protocol):
        changed: set[str]

        def __getitem__(self, name: str) -> Any: ...


def target(flags: Flags, env: Callable[[str], str], config: Callable[[], ConfigFile]) -> Endpoint:
    """Raises InvalidParameter, NotFound."""
    hosts, context = flags["host"], flags["context"]
    if len(hosts) > 1:
        raise InvalidParameter("specify only one -H")
    if hosts and context:
        raise InvalidParameter("conflicting options: cannot specify both --host and --context")
    if hosts:
        return Endpoint(hosts[0], tls=tls_files(flags, env, config))
    if not context:
        if host := env("SKIFF_HOST") or env("DOCKER_HOST"):
            return Endpoint(host, tls=tls_files(flags, env, config))
        context = env("DOCKER_CONTEXT") or config().current_context
    if context and context != "default":
        return _of_context(config().folder, context)
    return Endpoint(DEFAULT_HOST, is_default=True)


def tls_files(flags: Flags, env: Callable[[str], str], config: Callable[[], ConfigFile]) -> TlsFiles | None:
    verify = flags["tlsverify"] or ("tlsverify" not in flags.changed and bool(env("DOCKER_TLS_VERIFY")))
    if not (verify or flags["tls"]):
        return None
    folder = env("DOCKER_CERT_PATH") or config().folder

    def chosen(flag: str, name: str) -> str:
        path = f"{folder}/{name}"
        return str(flags[flag]) or (path if _exists(path) else "")

    return TlsFiles(
        chosen("tlscacert", "ca.pem"),
        chosen("tlscert", "cert.pem"),
        chosen("tlskey", "key.pem"),
        verify=verify,
    )


def contexts(folder: str) -> Mapping[str, tuple[str, dict[str, Any]]]:
    """Name → (the store's id of it, its meta.json)."""
    found = {}
    try:
        ids = posix.listdir(f"{folder}/contexts/meta")
    except OSError:
        return {}
    for id in sorted(ids):
        path = f"{folder}/contexts/meta/{id}/meta.json"
        try:
            with open(path, "rb") as file:
                meta = json_text.decode(file.read())
            found[str(meta["Name"])] = (id, meta)
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidParameter(f"{path}: malformed context: {error}") from error
    return found


def _of_context(folder: str, name: str) -> Endpoint:
    found = contexts(folder)
    if name not in found:
        raise NotFound(
            f'Failed to initialize: unable to resolve docker endpoint: context "{name}": context not found: '
            f"no such name in {folder}/contexts/meta"
        )
    id, meta = found[name]
    docker = (meta.get("Endpoints") or {}).get("docker") or {}
    certificates = f"{folder}/contexts/tls/{id}/docker"
    tls = None
    skip = bool(docker.get("SkipTLSVerify"))
    if skip or _exists(certificates):
        paths = [f"{certificates}/{file}" for file in ("ca.pem", "cert.pem", "key.pem")]
        tls = TlsFiles(*(path if _exists(path) else "" for path in paths), verify=not skip)
    return Endpoint(docker.get("Host") or DEFAULT_HOST, tls=tls)


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True
