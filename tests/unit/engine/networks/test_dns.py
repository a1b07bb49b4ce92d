import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from dnslib import AAAA as AAAARecord
from dnslib import CNAME, QTYPE, RR, DNSRecord
from dnslib import A as ARecord
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


def answer_for(name: str, *records: RR) -> bytes:
    answer = DNSRecord.question(name).reply()
    for record in records:
        answer.add_answer(record)
    return bytes(answer.pack())


def alias(name: str, target: str, ttl: int) -> RR:
    return RR(name, QTYPE.CNAME, rdata=CNAME(target), ttl=ttl)


def address(name: str, text: str, ttl: int) -> RR:
    data, kind = (AAAARecord(text), QTYPE.AAAA) if ":" in text else (ARecord(text), QTYPE.A)
    return RR(name, kind, rdata=data, ttl=ttl)


def test_addresses_of_an_answer_over_its_aliases() -> None:
    message = answer_for(
        "WWW.example",
        alias("www.example", "Web.example", 20),
        alias("web.example", "edge.example", 60),
        address("edge.example", "192.0.2.7", 30),
        address("edge.example", "2001:db8::7", 10),
        address("web.example", "192.0.2.8", 5),
        address("somebody.else", "192.0.2.9", 30),
    )
    assert dns.resolved(message, "www.example") == [
        (IPv4Address("192.0.2.7"), 20),
        (IPv6Address("2001:db8::7"), 10),
        (IPv4Address("192.0.2.8"), 5),
    ]


def test_aliases_in_a_circle_lead_nowhere() -> None:
    message = answer_for("a", alias("a", "b", 9), alias("b", "a", 9), address("c", "192.0.2.7", 9))
    assert dns.resolved(message, "a") == []


@pytest.mark.parametrize(
    "message",
    [
        b"",
        bytes(DNSRecord.question("a").pack()),  # a question
        answer_for("b", address("a", "192.0.2.7", 9)),  # to another question
        answer_for("a", address("a", "192.0.2.7", 9))[:-8],  # cut off within a record
        answer_for("a")[:6] + b"\0\1" + answer_for("a")[8:],  # less than it says
        answer_for("a")[:12] + b"\xc0\x0c\0\1\0\1",  # a name that points to itself
    ],
    ids=["nothing", "question", "another", "cut", "less", "itself"],  # their bytes hold a number drawn by lot
)
def test_no_answer_to_this_question(message: bytes) -> None:
    with pytest.raises(dns.MalformedMessage):
        dns.resolved(message, "a")


def test_a_dot_in_a_label_is_no_separator() -> None:
    with pytest.raises(dns.MalformedMessage):
        dns.question(struct.pack(">6H", 7, 256, 1, 0, 0, 0) + b"\x09good.test\0\0\1\0\1")


@given(st.binary(max_size=600), st.integers(0, 600))
def test_any_bytes_are_an_answer_or_malformed(data: bytes, at: int) -> None:
    whole = answer_for("a", alias("a", "b", 9), address("b", "192.0.2.7", 9))
    for message in (
        data,
        whole[:at] + data,
        whole[: at % len(whole)] + data[:2] + whole[at % len(whole) + 2 :],
    ):
        try:
            found = dns.resolved(message, "a")
        except dns.MalformedMessage:
            continue
        assert all(0 <= ttl < 2**32 for _, ttl in found)
