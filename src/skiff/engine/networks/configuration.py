"""Configuration networks: subnets, options and labels without a link, from which networks are made. Pure."""

from msgspec.structs import replace

from skiff.docker.network import NetworkCreate
from skiff.engine.networks.record import Network
from skiff.errors import Forbidden


def check(wish: NetworkCreate) -> None:
    """Forbidden, in Docker's words, for what configurations cannot be."""
    if wish.config_only:
        if wish.internal or wish.attachable or wish.ingress or wish.scope:
            raise Forbidden(
                "configuration network can only contain network specific fields. "
                "Network operator fields like [ ingress | internal | attachable | scope ] are not supported."
            )
        if source_of(wish):
            raise Forbidden("a configuration network cannot depend on another configuration network")
    elif source_of(wish):
        if wish.options:
            raise Forbidden(
                "network driver options are not supported if the network depends on a configuration network"
            )
        if wish.labels or wish.enable_ipv6 or (wish.ipam and (wish.ipam.config or wish.ipam.options)):
            raise Forbidden(
                "user specified configurations are not supported "
                "if the network depends on a configuration network"
            )


def source_of(wish: NetworkCreate) -> str:
    """The name of the configuration that a network shall be made from; or empty."""
    return wish.config_from.network if wish.config_from else ""


def applied(wish: NetworkCreate, source: Network) -> NetworkCreate:
    """The wish with all that the configuration says."""
    return replace(
        wish,
        ipam=source.asked,
        enable_ipv4=source.ipv4,
        enable_ipv6=source.ipv6,
        options=dict(source.options),
        labels=dict(source.labels),
    )
