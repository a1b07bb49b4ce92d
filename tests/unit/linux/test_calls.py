"""Programs of system calls and their images."""

import struct
from errno import EACCES, ENOENT

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.linux import calls
from skiff.linux.calls import END, PENDING, RECORD, Counted, Image, Pointers, Program, Rider, errors

NUMBERS = {"open": 2, "write": 1, "close": 3}
BASE = 0x10000


def record(image: Image, index: int) -> tuple[int, ...]:
    return RECORD.unpack_from(image.data, image.start + index * RECORD.size)


def at(image: Image, address: int, length: int) -> bytes:
    return image.data[address - BASE :][:length]


def test_numbers_and_integers_are_words() -> None:
    program = Program(NUMBERS, BASE)
    program.call("write", 5, -1, None)
    image = program.image()
    assert record(image, 0)[:8] == (1, 5, END, 0, 0, 0, 0, PENDING)
    assert record(image, 1)[0] == END


def test_texts_lie_behind_the_records_each_once_and_end_with_nul() -> None:
    program = Program(NUMBERS, BASE)
    program.call("open", b"/a")
    program.call("open", b"/b", b"/a")
    image = program.image()
    first, second = record(image, 0)[1], record(image, 1)[1]
    assert BASE <= first < BASE + image.start
    assert (at(image, first, 3), at(image, second, 3)) == (b"/a\0", b"/b\0")
    assert record(image, 1)[2] == first


def test_a_result_goes_to_where_it_is_used() -> None:
    program = Program(NUMBERS, BASE)
    opened = program.call("open", b"/a")
    program.call("write", opened, b"x", 1)
    program.call("close", opened)
    image = program.image()
    start = BASE + image.start
    assert record(image, 0)[8:10] == (start + RECORD.size + 8, start + 2 * RECORD.size + 8)


def test_a_result_has_two_uses() -> None:
    program = Program(NUMBERS, BASE)
    opened = program.call("open", b"/a")
    for _ in range(3):
        program.call("close", opened)
    with pytest.raises(ValueError, match="a third time"):
        program.image()


def test_riders_are_places() -> None:
    program = Program(NUMBERS, BASE)
    program.call("close", Rider("socket"))
    program.call("write", Rider("socket"), b"x", 1)
    image = program.image()
    first = BASE + image.start + 8
    assert image.places == {"socket": (first, first + RECORD.size)}


def test_a_failure_that_may_be_goes_on_with_the_next_or_where_it_is_resumed() -> None:
    program = Program(NUMBERS, BASE)
    program.call("open", b"/a", may_fail=errors(ENOENT))
    missing = program.call("open", b"/b", may_fail=errors(ENOENT, EACCES))
    program.call("close", missing)
    program.resume(missing)
    image = program.image()
    assert record(image, 0)[10:] == (1 << ENOENT, RECORD.size)
    assert record(image, 1)[10:] == (1 << ENOENT | 1 << EACCES, 2 * RECORD.size)


def test_arrays_of_pointers_end_with_null() -> None:
    program = Program(NUMBERS, BASE)
    program.call("open", Pointers((b"a", b"bc")))
    image = program.image()
    first, second, last = struct.unpack("<3Q", at(image, record(image, 0)[1], 24))
    assert (at(image, first, 2), at(image, second, 3), last) == (b"a\0", b"bc\0", 0)


def test_a_counted_structure() -> None:
    program = Program(NUMBERS, BASE)
    program.call("open", Counted(2, b"12345678"))
    image = program.image()
    length, data = struct.unpack("<QQ", at(image, record(image, 0)[1], 16))
    assert (length, at(image, data, 8)) == (2, b"12345678")


def test_a_call_that_is_not_here() -> None:
    with pytest.raises(KeyError):
        Program(NUMBERS, BASE).call("fly")


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_every_text_is_found_again(texts: list[bytes]) -> None:
    program = Program(NUMBERS, BASE)
    for text in texts:
        program.call("open", text)
    image = program.image()
    for index, text in enumerate(texts):
        assert at(image, record(image, index)[1], len(text) + 1) == text + b"\0"


@pytest.mark.parametrize("value", [0, 7, -2, -4095, PENDING])
def test_results_are_read_as_the_kernel_says_them(value: int) -> None:
    memory = bytearray(8 + 2 * RECORD.size)
    struct.pack_into("<Q", memory, 8 + RECORD.size + 56, value & END)
    assert calls.result(memoryview(memory), 1, 8) == value


def test_going_back() -> None:
    program = Program(NUMBERS, BASE)
    first = program.call("write", 1, b"x", 1)
    second = program.call("close", -1, may_fail=errors(EACCES))
    program.go_back(second, first)
    assert record(program.image(), 1)[11] == -RECORD.size & END


def test_an_argument_points_to_another() -> None:
    program = Program(NUMBERS, BASE)
    reads = program.call("open", None, 5)
    given = program.call("write", 7, 8, 9)
    program.point(reads, 0, given, 2)
    image = program.image()
    assert record(image, 0)[1] == BASE + image.start + RECORD.size + 3 * 8


def test_room_for_what_the_kernel_writes() -> None:
    program = Program(NUMBERS, BASE)
    one, other = program.room(16), program.room(3)
    assert one % 8 == other % 8 == 0
    image = program.image()
    assert at(image, one, 16) == bytes(16)
    assert other >= one + 16
