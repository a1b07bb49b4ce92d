"""Which endpoints may be, in Docker's words."""

import pytest

from skiff.docker.network import EndpointIPAMConfig, EndpointSettings
from skiff.engine.networks.record import Network, StoredRange
from skiff.engine.networks.settings import check_settings
from skiff.errors import InvalidParameter

SUBNETS = "user configured subnets"


def asked(address: str) -> EndpointSettings:
    return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=address))


def network(name: str = "one", *, addressable: bool = True) -> Network:
    ranges = (StoredRange("10.5.0.0/24", "10.5.0.1", "10.5.0.0/24"),)
    return Network(id="1", name=name, driver="bridge", created_ns=0, ranges=ranges, addressable=addressable)


@pytest.mark.parametrize(
    ("on", "address", "words"),
    [
        (
            network(),
            "10.6.0.9",
            "no configured subnet or ip-range contain the IP address 10.6.0.9",
        ),
        (network(), "ten", r"settings:\n\* invalid IPv4 address: ten\n\* no configured subnet"),
        (network(addressable=False), "10.5.0.9", f"settings:\nuser specified .* with {SUBNETS}"),
        (network("bridge"), "10.5.0.9", f"settings:\n\\* user .* networks only\n\\* user .* {SUBNETS}"),
    ],
)
def test_refused(on: Network, address: str, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        check_settings(on, asked(address))


def test_allowed() -> None:
    check_settings(network(), asked("10.5.0.9"))
    check_settings(network("bridge"), EndpointSettings())
    check_settings(network(addressable=False), asked(""))
