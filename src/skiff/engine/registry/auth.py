"""Who we are to a registry: credentials, challenges and tokens."""

from msgspec import Struct


class Credentials(Struct, frozen=True):
    """What X-Registry-Auth carries. identity_token: an OAuth2 refresh token; registry_token: a bearer token."""

    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""
