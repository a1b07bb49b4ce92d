"""Credentials for registries: auths, credsStore and credHelpers of config.json → X-Registry-Auth.

Helpers are programs named docker-credential-NAME that speak JSON over stdin and stdout.
"""

from __future__ import annotations

import binascii
import posix

from skiff.client import json_text
from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.client.config_file import ConfigFile

HUB = "https://index.docker.io/v1/"
NOT_FOUND = b"credentials not found in native keychain"


class HelperFailed(SkiffError):
    """A credential helper could not be run, or refused."""


def registry_of(image: str) -> str:
    """The registry's name in config.json: its host, or Docker Hub's old address."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return HUB if first in ("docker.io", "index.docker.io", "registry-1.docker.io") else first
    return HUB


def credentials(config: ConfigFile, registry: str) -> dict[str, str]:
    """AuthConfig for a registry; empty when nothing is known. Raises HelperFailed."""
    helper = _helper(config, registry)
    if helper:
        return _from_helper(helper, registry)
    entry = _entry(config.values.get("auths") or {}, registry)
    if not entry:
        return {}
    found: dict[str, str] = {"serveraddress": registry}
    if entry.get("auth"):
        try:
            text = binascii.a2b_base64(entry["auth"]).decode("utf-8", "replace")
        except ValueError as error:
            raise HelperFailed(f"invalid auth configuration for {registry}: {error}") from error
        name, _, secret = text.partition(":")
        found |= {"username": name, "password": secret.strip("\x00")}
    for key in ("username", "password", "identitytoken", "registrytoken"):
        if entry.get(key):
            found[key] = entry[key]
    return found


def store(config: ConfigFile, registry: str, found: dict[str, str]) -> bool:
    """Keep the AuthConfig; whether it lies in config.json now, in plain. Raises HelperFailed."""
    helper = _helper(config, registry)
    secret = found.get("identitytoken") or found.get("password", "")
    if helper:
        name = "<token>" if found.get("identitytoken") else found.get("username", "")
        value = {"ServerURL": registry, "Username": name, "Secret": secret}
        status, output = ask_helper(helper, "store", json_text.encode(value))
        if status != 0:
            raise HelperFailed(_said("storing", status, output))
        entry: dict[str, str] = {}
    elif found.get("identitytoken"):
        pair = f"{found.get('username', '')}:".encode()
        entry = {"auth": _base64(pair), "identitytoken": secret}
    else:
        entry = {"auth": _base64(f"{found.get('username', '')}:{secret}".encode())}
    auths = dict(config.values.get("auths") or {})
    if auths.get(registry) == entry:
        return False
    config.values["auths"] = {**auths, registry: entry}
    config.save()
    return not helper


def erase(config: ConfigFile, registry: str) -> None:
    """Forget what is known for a registry, under whatever spelling. Raises HelperFailed."""
    helper = _helper(config, registry)
    names = [registry] if registry == HUB else [registry, f"http://{registry}", f"https://{registry}"]
    auths = {name: entry for name, entry in (config.values.get("auths") or {}).items() if name not in names}
    if auths != (config.values.get("auths") or {}):
        config.values["auths"] = auths
        config.save()
    if helper:
        for name in names:
            status, output = ask_helper(helper, "erase", name.encode())
            if status != 0 and NOT_FOUND not in output:
                raise HelperFailed(_said("erasing", status, output))


def _helper(config: ConfigFile, registry: str) -> str:
    chosen = (config.values.get("credHelpers") or {}).get(registry) or config.values.get("credsStore")
    return str(chosen or "")


def _said(doing: str, status: int, output: bytes) -> str:
    reason = output.decode("utf-8", "replace").strip()
    return f"error {doing} credentials - err: exit status {status}, out: `{reason}`"


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _entry(auths: dict[str, Any], registry: str) -> dict[str, Any]:
    if registry in auths:
        return dict(auths[registry] or {})
    for name, entry in auths.items():
        if name.partition("://")[2].partition("/")[0] == registry:
            return dict(entry or {})
    return {}


def auth_header(config: ConfigFile, image: str) -> str:
    """X-Registry-Auth for an image: base64url of JSON, `{}` when anonymous."""
    found = credentials(config, registry_of(image))
    return encoded(found)


def encoded(value: object) -> str:
    return (
        binascii.b2a_base64(json_text.encode(value), newline=False)
        .decode("ascii")
        .replace("+", "-")
        .replace("/", "_")
    )


def _from_helper(helper: str, registry: str) -> dict[str, str]:
    status, output = ask_helper(helper, "get", registry.encode())
    if status != 0:
        if NOT_FOUND in output:
            return {}
        raise HelperFailed(_said("getting", status, output))
    try:
        value = json_text.decode(output)
        name, secret = value["Username"], value["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HelperFailed(f"docker-credential-{helper}: malformed answer") from error
    if not isinstance(name, str) or not isinstance(secret, str):
        raise HelperFailed(f"docker-credential-{helper}: malformed answer")
    if name == "<token>":
        return {"serveraddress": registry, "identitytoken": secret}
    return {"serveraddress": registry, "username": name, "password": secret}


def ask_helper(helper: str, verb: str, message: bytes) -> tuple[int, bytes]:
    """Run docker-credential-HELPER VERB; (exit code, stdout). Raises HelperFailed when it is not there."""
    name = f"docker-credential-{helper}".encode()
    for folder in posix.environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
        program = folder + b"/" + name
        if posix.access(program, 1):
            break
    else:
        raise HelperFailed(
            f'error getting credentials - err: exec: "{name.decode()}": executable file not found in $PATH'
        )
    into_read, into_write = posix.pipe()
    from_read, from_write = posix.pipe()
    actions = [
        (posix.POSIX_SPAWN_DUP2, into_read, 0),
        (posix.POSIX_SPAWN_DUP2, from_write, 1),
    ]
    child = posix.posix_spawn(program, [name, verb.encode()], posix.environ, file_actions=actions)
    posix.close(into_read)
    posix.close(from_write)
    try:
        posix.write(into_write, message)
    except BrokenPipeError:
        pass  # a helper that answers without reading is free to do so
    posix.close(into_write)
    output = b""
    while data := posix.read(from_read, 65536):
        output += data
    posix.close(from_read)
    return posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1]), output
