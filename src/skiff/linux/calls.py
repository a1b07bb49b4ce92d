"""A program of system calls as data, and its image in memory. Pure; spawn.py performs it.

    program = Program()
    tree = program.call("fsmount", fs, 1, 0)           what a call answers can be an argument of later ones
    program.call("move_mount", tree, b"", …)
    missing = program.call("mkdirat", …, may_fail=(EEXIST,))
    …                                                  passed over after a failure that may be …
    program.resume(missing)                            … up to here

The image is position dependent: records of twelve words, then the texts and structures they point to. Nothing
but a little-endian machine of 64 bits is meant.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

# number, six arguments, what came of it, two places to copy that to (or 0), the failures that may be (bit n
# is errno n), how many bytes to go on after one of them
RECORD: Final = struct.Struct("<12Q")
END: Final = (1 << 64) - 1  # as a number: the program ends here
PENDING: Final = 1 << 62  # as a result: not performed so far
FIRST_ERROR: Final = (1 << 64) - 4095  # results from here on are negative error numbers
ANY_ERROR: Final = tuple(range(1, 64))

_WORD: Final = struct.Struct("<Q")
_RESULT: Final = 7 * _WORD.size
_USES: Final = 2


class Result(NamedTuple):
    """What the call of that index answers; for at most two arguments."""

    at: int


class Rider(NamedTuple):
    """A descriptor whose number is known only where the program is performed."""

    name: str


class Pointers(NamedTuple):
    """An array of pointers to texts, NULL at its end: argv, envp."""

    texts: tuple[bytes, ...]


class Counted(NamedTuple):
    """A structure of a count and a pointer: struct sock_fprog."""

    length: int
    data: bytes


Argument: TypeAlias = "int | bytes | Result | Rider | Pointers | Counted | None"


class Image(NamedTuple):
    """data: to be laid at the base it was made for. places: rider → addresses where its number belongs."""

    data: bytes
    places: dict[str, tuple[int, ...]]


class Program:
    """Calls in the order they will be made. numbers: system call name → number."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self._numbers = numbers
        self._calls: list[tuple[int, Sequence[Argument]]] = []
        self._tolerated: dict[int, int] = {}
        self._resumed: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def call(self, name: str, *arguments: Argument, may_fail: Iterable[int] = ()) -> Result:
        """One more call. may_fail: errors (below 64) that do not end the program.

        Integers are passed as they are, bytes as the address of a copy that ends with NUL. KeyError for a
        call that this machine does not have.
        """
        index = len(self._calls)
        self._calls.append((self._numbers[name], arguments))
        if may_fail:
            self._tolerated[index] = sum(1 << number for number in may_fail)
        return Result(index)

    def resume(self, failed: Result) -> None:
        """After a failure of that call which may be, the program goes on with the call added next."""
        self._resumed[failed.at] = len(self._calls)

    def skip(self) -> Result:
        """A call that fails in any case, so that the program goes on where its result is resumed."""
        return self.call("close", -1, may_fail=(9,))

    def image(self, base: int) -> Image:
        """The program as it has to lie at this address, a multiple of eight. ValueError: a third use."""
        return _Layout(base, len(self._calls)).fill(self._calls, self._tolerated, self._resumed)


class _Layout:
    def __init__(self, base: int, calls: int) -> None:
        self.base = base
        self.heap = base + (calls + 1) * RECORD.size
        self.data = bytearray()
        self.texts: dict[bytes, int] = {}
        self.uses: dict[int, list[int]] = {}
        self.riders: dict[str, list[int]] = {}

    def fill(
        self,
        calls: Sequence[tuple[int, Sequence[Argument]]],
        tolerated: dict[int, int],
        resumed: dict[int, int],
    ) -> Image:
        words = [
            [number, *(self._word(value, index, place) for place, value in enumerate(arguments, 1))]
            for index, (number, arguments) in enumerate(calls)
        ]
        records = bytearray()
        for index, start in enumerate(words):
            places = self.uses.get(index, [])
            if len(places) > _USES:
                raise ValueError(f"the result of call {index} is used {len(places)} times")
            start += [0] * (7 - len(start))
            further = (resumed.get(index, index + 1) - index) * RECORD.size
            places = [*places, 0, 0][:_USES]
            records += RECORD.pack(*start, PENDING, *places, tolerated.get(index, 0), further)
        records += RECORD.pack(END, *[0] * 11)
        riders = {name: tuple(addresses) for name, addresses in self.riders.items()}
        return Image(bytes(records + self.data), riders)

    def _word(self, value: Argument, index: int, place: int) -> int:
        match value:
            case None:
                return 0
            case int():
                return value & END
            case bytes():
                return self._text(value)
            case Result():
                self.uses.setdefault(value.at, []).append(self._address(index, place))
                return 0
            case Rider():
                self.riders.setdefault(value.name, []).append(self._address(index, place))
                return 0
            case Pointers():
                addresses = [*map(self._text, value.texts), 0]
                return self._put(struct.pack(f"<{len(addresses)}Q", *addresses))
            case Counted():
                return self._put(struct.pack("<QQ", value.length, self._text(value.data)))

    def _address(self, index: int, place: int) -> int:
        return self.base + index * RECORD.size + place * _WORD.size

    def _text(self, text: bytes) -> int:
        found = self.texts.get(text)
        if found is None:
            found = self.texts[text] = self._put(text + b"\0")
        return found

    def _put(self, data: bytes) -> int:
        address = self.heap + len(self.data)
        self.data += data + bytes(-len(data) % _WORD.size)
        return address


def result(memory: bytes | memoryview, index: int, at: int = 0) -> int:
    """What came of that call, in the memory where the image was performed: PENDING, or as the kernel says it
    (a negative error number). at: where the image lies in it.
    """
    value: int = _WORD.unpack_from(memory, at + index * RECORD.size + _RESULT)[0]
    return value - (1 << 64) if value >= FIRST_ERROR else value
