"""Networks in the hands of a program."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from skiff.client.connection import EngineError
from skiff.client.engine import EngineClient


class Network:
    """One network, by its name or id. A `with` block removes it at its end."""

    def __init__(self, client: Callable[[], EngineClient], name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        return f"<Network {self.name}>"

    def __enter__(self) -> "Network":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove(missing_ok=True)

    def inspect(self) -> dict[str, Any]:
        return self._client().network(self.name)

    def connect(self, container: str, *, aliases: Sequence[str] = (), ip: str = "") -> None:
        """A container, running or not, gets an interface here."""
        settings: dict[str, Any] = {"Aliases": list(aliases) or None}
        if ip:
            settings["IPAMConfig"] = {"IPv4Address": ip}
        self._client().connect_network(self.name, {"Container": container, "EndpointConfig": settings})

    def disconnect(self, container: str, *, force: bool = False) -> None:
        self._client().disconnect_network(self.name, container, force=force)

    def remove(self, *, missing_ok: bool = False) -> None:
        try:
            self._client().remove_network(self.name)
        except EngineError as error:
            if error.status != 404 or not missing_ok:
                raise
