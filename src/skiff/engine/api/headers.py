"""The headers that every reply carries. Clients learn from them whom they talk to."""

from typing import Final

from skiff import __version__
from skiff.engine.api.versions import API_VERSION

SERVER: Final = f"Skiff/{__version__} (linux)"

STANDARD: Final[dict[str, str]] = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": SERVER,
}

# On `_ping`. Builder-Version 1: the classic builder is the one that is here; a client told 2 would open
# BuildKit's gRPC connection.
PING: Final[dict[str, str]] = {
    **STANDARD,
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}
