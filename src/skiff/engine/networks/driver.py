"""NetworkDriver: how a kind of network becomes links in the kernel. Plain blocking code."""

from collections.abc import Collection
from typing import Protocol

from skiff.engine.networks.record import Endpoint, Network
from skiff.engine.networks.sandbox import Namespace


class NetworkDriver(Protocol):
    name: str

    def check(self, network: Network) -> None:
        """May such a network be? InvalidParameter for options that it cannot honour."""
        ...

    def link_name(self, id: str, options: dict[str, str]) -> str:
        """What a new network's link on the host will be called."""
        ...

    def create(self, network: Network) -> None:
        """Make the link, or find that it is there. OSError."""
        ...

    def delete(self, network: Network) -> None:
        """Remove the link; nothing happens when it is gone already."""
        ...

    def attach(
        self,
        network: Network,
        endpoint: Endpoint,
        namespace: Namespace,
        *,
        default: Collection[int],
        hairpin: bool,
    ) -> None:
        """Give the namespace an interface with the endpoint's addresses.

        default: the address families (4, 6) whose default route it gives.
        hairpin: the container publishes ports, and must reach itself by them.
        """
        ...

    def detach(self, network: Network, endpoint: Endpoint, namespace: Namespace | None) -> None:
        """Take it away again, while the namespace lives on. None: as far as it can be done from outside.

        Called in a thread, as the only method.
        """
        ...
