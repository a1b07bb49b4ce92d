"""Which engine? The first of these that says:

    -H · --context · SKIFF_HOST · DOCKER_HOST · DOCKER_CONTEXT · currentContext of config.json · unix:///run/skiff/skiff.sock

SKIFF_HOST stands before DOCKER_HOST so that both command lines can be used on one machine.
"""

from __future__ import annotations

import posix

from skiff.client.endpoint import DEFAULT_HOST, Endpoint, TlsFiles
from skiff.errors import InvalidParameter, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from skiff.client.config_file import ConfigFile

    class Flags(Protocol):
        changed: set[str]

        def __getitem__(self, name: str) -> Any: ...


def target(flags: Flags, env: Callable[[str], str], config: Callable[[], ConfigFile]) -> Endpoint:
    """Raises InvalidParameter, NotFound."""
    hosts, context = flags["host"], flags["context"]
    if hosts and context:
        raise InvalidParameter("conflicting options: cannot specify both --host and --context")
    if hosts:
        return Endpoint(hosts[0], tls=tls_files(flags, env, config))
    context = active_context(flags, env, config)
    if context != "default":
        return _of_context(config().folder, context)
    return default_context(flags, env, config)


def default_context(flags: Flags, env: Callable[[str], str], config: Callable[[], ConfigFile]) -> Endpoint:
    """What the environment says, when no context does."""
    if host := env("SKIFF_HOST") or env("DOCKER_HOST"):
        return Endpoint(host, tls=tls_files(flags, env, config))
    return Endpoint(DEFAULT_HOST, is_default=True)


def tls_files(flags: Flags, env: Callable[[str], str], config: Callable[[], ConfigFile]) -> TlsFiles | None:
    verify = flags["tlsverify"] or ("tlsverify" not in flags.changed and bool(env("DOCKER_TLS_VERIFY")))
    if not (verify or flags["tls"]):
        return None
    folder = env("DOCKER_CERT_PATH") or config().folder

    def chosen(flag: str, name: str) -> str:
        path = f"{folder}/{name}"
        return str(flags[flag]) or (path if _exists(path) else "")

    authority = chosen("tlscacert", "ca.pem")
    if env("DOCKER_CERT_PATH") and not authority:
        authority = f"{folder}/ca.pem"
    if authority and not _exists(authority):
        reason = f"open {authority}: no such file or directory"
        raise NotFound(f"Failed to initialize: unable to resolve docker endpoint: {reason}")
    return TlsFiles(
        authority,
        chosen("tlscert", "cert.pem"),
        chosen("tlskey", "key.pem"),
        verify=verify,
    )


def active_context(flags: Flags, env: Callable[[str], str], config: Callable[[], ConfigFile]) -> str:
    """The name of the context in force; "default" where a host is chosen, or nothing."""
    if flags["host"]:
        return "default"
    if flags["context"]:
        return str(flags["context"])
    if env("SKIFF_HOST") or env("DOCKER_HOST"):
        return "default"
    return env("DOCKER_CONTEXT") or config().current_context or "default"


def _of_context(folder: str, name: str) -> Endpoint:
    from skiff.client.contexts import Store

    try:
        return Store(folder).endpoint(name)
    except NotFound as error:
        raise NotFound(f"Failed to initialize: unable to resolve docker endpoint: {error}") from None


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True
