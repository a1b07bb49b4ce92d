import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.networks import dns


def asked(name: str, kind: str = "A") -> tuple[bytes, dns.Question]:
    message = bytes(DNSRecord.question(name, kind).pack())
    return message, dns.question(message)


def test_a_question_is_read() -> None:
    message, question = asked("Web.Example", "AAAA")
    assert (question.name, question.type, question.end) == ("web.example", dns.AAAA, len(message))


def test_an_answer_is_what_other_resolvers_read() -> None:
    message, question = asked("web")
    records = [dns.address_record(IPv4Address("172.18.0.2")), dns.address_record(IPv4Address("172.18.0.3"))]
    answer = DNSRecord.parse(dns.reply(message, question, records))
    assert answer.header.id == question.id
    assert answer.header.qr == answer.header.ra == answer.header.rd == 1
    assert [str(r.rdata) for r in answer.rr] == ["172.18.0.2", "172.18.0.3"]
    assert {r.ttl for r in answer.rr} == {dns.TTL}


def test_ipv6_and_pointers() -> None:
    message, question = asked("web", "AAAA")
    answer = DNSRecord.parse(dns.reply(message, question, [dns.address_record(IPv6Address("fd00::2"))]))
    assert str(answer.rr[0].rdata) == "fd00::2"
    message, question = asked("2.0.18.172.in-addr.arpa", "PTR")
    answer = DNSRecord.parse(dns.reply(message, question, [dns.pointer_record("web.net")]))
    assert str(answer.rr[0].rdata) == "web.net."


def test_too_long_an_answer_is_cut_and_says_so() -> None:
    message, question = asked("web")
    records = [dns.address_record(IPv4Address(i)) for i in range(100)]
    answer = dns.reply(message, question, records, limit=512)
    parsed = DNSRecord.parse(answer)
    assert len(answer) <= 512
    assert parsed.header.tc == 1
    assert 20 < len(parsed.rr) < 100


def test_codes() -> None:
    message, question = asked("nowhere")
    assert DNSRecord.parse(dns.reply(message, question, code=dns.NO_SUCH_NAME)).header.rcode == 3


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.18.172.in-addr.arpa", IPv4Address("172.18.0.2")),
        ("256.0.18.172.in-addr.arpa", None),
        ("0.18.172.in-addr.arpa", None),
        ("web", None),
        (
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            IPv6Address("fd00::2"),
        ),
        ("x.d.f.ip6.arpa", None),
    ],
)
def test_reversed_addresses(name: str, address: IPv4Address | IPv6Address | None) -> None:
    assert dns.reversed_address(name) == address


@given(st.binary(max_size=600))
def test_any_bytes_are_a_question_or_malformed(data: bytes) -> None:
    try:
        question = dns.question(data)
    except dns.MalformedMessage:
        return
    assert 12 < question.end <= len(data)
    assert dns.reply(data, question)[:2] == data[:2]


@given(
    st.lists(
        st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63), min_size=1, max_size=3
    )
)
def test_names_round_trip(labels: list[str]) -> None:
    name = ".".join(labels)
    message = struct.pack(">6H", 1, 0, 1, 0, 0, 0) + dns.encoded_name(name) + struct.pack(">2H", 1, 1)
    assert dns.question(message).name == name
