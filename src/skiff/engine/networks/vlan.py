"""The macvlan and ipvlan drivers: an endpoint is a sub-link of a link of the host, side by side with it.

parent := link | link "." tag      a tagged parent is made as an 802.1q link, and goes with the network
"""

import errno
import os
from collections.abc import Collection
from typing import Final

from skiff.engine.networks.bridge import MTU, configure
from skiff.engine.networks.record import Endpoint, Network
from skiff.engine.networks.sandbox import Namespace
from skiff.errors import InvalidParameter, NotImplementedHere
from skiff.linux import links
from skiff.linux.netlink import Message, NetlinkSocket

PARENT: Final = "parent"
MODES: Final = {"macvlan": links.MACVLAN_MODES, "ipvlan": links.IPVLAN_MODES}
DEFAULT_MODES: Final = {"macvlan": "bridge", "ipvlan": "l2"}
_TRIAL: Final = "skifftrial0"


class SubLinkDriver:
    """kind: `macvlan` or `ipvlan`."""

    def __init__(self, kind: str) -> None:
        self.name = kind
        self._netlink = NetlinkSocket()

    def check(self, network: Network) -> None:
        mode = self._mode_name(network)
        if mode not in MODES[self.name]:
            wanted = ", ".join(MODES[self.name])
            raise InvalidParameter(f"requested {self.name} mode '{mode}' is not valid: expected {wanted}")
        for key in network.options:
            if key not in (PARENT, f"{self.name}_mode", MTU):
                raise InvalidParameter(f"the {self.name} driver does not know the option {key}")
        if not network.internal and not network.options.get(PARENT):
            raise InvalidParameter(f"{self.name} needs a parent link: -o parent=LINK")

    def link_name(self, id: str, options: dict[str, str]) -> str:
        return options.get(PARENT) or f"dm-{id[:12]}"

    def create(self, network: Network) -> None:
        """Find or make the parent, and see that the kernel knows this kind of link."""
        parent = links.find(self._netlink, network.link) or self._made_parent(network)
        trial = links.sub_link(_TRIAL, self.name, parent=parent.number, mode=self._mode(network))
        self._asked(trial, self.name)
        found = links.find(self._netlink, _TRIAL)
        if found is not None:
            self._netlink.request(links.deleted(found.number))

    def _made_parent(self, network: Network) -> links.Link:
        name = network.link
        base, dot, tag = name.rpartition(".")
        if not network.options.get(PARENT):
            self._asked(links.dummy(name), "dummy")
        elif dot and tag.isdigit() and 1 <= int(tag) <= 4094:
            below = links.find(self._netlink, base)
            if below is None:
                raise InvalidParameter(f"the parent link {base} does not exist")
            self._asked(links.vlan(name, parent=below.number, tag=int(tag)), "vlan")
        else:
            raise InvalidParameter(f"the parent link {name} does not exist")
        found = links.find(self._netlink, name)
        if found is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
        return found

    def _asked(self, message: Message, kind: str) -> None:
        try:
            self._netlink.request(message, what=kind)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENODEV):
                raise NotImplementedHere(f"this kernel has no {kind} links: {error.strerror}") from error
            raise

    def delete(self, network: Network) -> None:
        """Only a parent that was made for the network goes with it."""
        tagged = "." in network.link and network.options.get(PARENT)
        if tagged or not network.options.get(PARENT):
            found = links.find(self._netlink, network.link)
            if found is not None:
                self._netlink.request(links.deleted(found.number), what=network.link)

    def attach(
        self,
        network: Network,
        endpoint: Endpoint,
        namespace: Namespace,
        *,
        default: Collection[int],
        hairpin: bool,
    ) -> None:
        parent = links.find(self._netlink, network.link) or self._made_parent(network)
        mac = endpoint.mac if self.name == "macvlan" else ""
        wanted = links.sub_link(
            endpoint.interface,
            self.name,
            parent=parent.number,
            netns=namespace.descriptor,
            mac=mac,
            mode=self._mode(network),
        )
        self._asked(wanted, self.name)
        configure(network, endpoint, namespace, default=default)

    def detach(self, network: Network, endpoint: Endpoint, namespace: Namespace | None) -> None:
        if namespace is None:
            return
        with namespace.another_netlink() as netlink:
            found = links.find(netlink, endpoint.interface)
            if found is not None:
                netlink.request(links.deleted(found.number), what=endpoint.interface)

    def _mode_name(self, network: Network) -> str:
        return network.options.get(f"{self.name}_mode") or DEFAULT_MODES[self.name]

    def _mode(self, network: Network) -> int:
        return MODES[self.name][self._mode_name(network)]
