import struct

from hypothesis import given
from hypothesis import strategies as st

from skiff.linux import netlink


def test_attributes_are_padded_and_read_back() -> None:
    data = netlink.text(3, "eth0") + netlink.u32(4, 1500) + netlink.nested(18, netlink.text(1, "veth"))
    assert len(data) % 4 == 0
    assert list(netlink.attributes(data)) == [
        (3, b"eth0\0"),
        (4, struct.pack("=I", 1500)),
        (18, netlink.text(1, "veth")),
    ]


def test_messages_round_trip() -> None:
    packed = b"".join(
        netlink.pack(netlink.Message(16, 4, body), n) for n, body in enumerate((b"abcd", b""), 7)
    )
    assert [(k, s, b) for k, _, s, b in netlink.unpack(packed)] == [(16, 7, b"abcd"), (16, 8, b"")]


def test_errors_carry_the_kernels_words() -> None:
    original = struct.pack("=IHHII", 16, 16, 0, 1, 0)
    body = struct.pack("=i", -17) + original + netlink.text(1, "already there")
    flags = netlink.NLM_F_ACK_TLVS | netlink.NLM_F_CAPPED
    assert netlink.error_of(flags, body) == (17, "already there")


@given(st.binary(max_size=300))
def test_any_bytes_are_walked_to_an_end(data: bytes) -> None:
    list(netlink.attributes(data))
    list(netlink.unpack(data))
