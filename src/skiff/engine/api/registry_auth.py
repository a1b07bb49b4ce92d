"""Credentials as clients send them: the header X-Registry-Auth, and the body of POST /auth. Pure."""

import base64
import binascii

from msgspec import Struct

from skiff.docker import wire
from skiff.engine.registry.auth import Credentials
from skiff.errors import InvalidParameter
from skiff.oci.reference import DEFAULT_DOMAIN


class AuthConfig(Struct, frozen=True, kw_only=True):
    """Engine API, AuthConfig; the names are those of the wire. auth: base64 of `user:password`."""

    username: str = ""
    password: str = ""
    auth: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


def from_header(text: str) -> Credentials | None:
    """Base64url of an AuthConfig, with or without padding; None when there is none. InvalidParameter."""
    if not text:
        return None
    compact = text.strip().replace("+", "-").replace("/", "_").rstrip("=")
    try:
        raw = base64.b64decode(compact + "=" * (-len(compact) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter(f"invalid X-Registry-Auth header: {error}") from error
    return credentials(wire.decode(raw, AuthConfig))


def credentials(config: AuthConfig) -> Credentials:
    """Who the client is. InvalidParameter when `auth` is no base64 of `user:password`."""
    username, password = config.username, config.password
    if config.auth and not username:
        try:
            pair = base64.b64decode(config.auth, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise InvalidParameter(f"invalid auth configuration: {error}") from error
        username, _, password = pair.rstrip("\0").partition(":")
    return Credentials(
        username=username,
        password=password,
        server_address=config.serveraddress,
        identity_token=config.identitytoken,
        registry_token=config.registrytoken,
    )


def domain(address: str) -> str:
    """The registry that a server address names: `https://index.docker.io/v1/` → `docker.io`."""
    host = address.partition("://")[2] or address
    host = host.partition("/")[0]
    return DEFAULT_DOMAIN if host in ("", "index.docker.io", "registry-1.docker.io") else host
