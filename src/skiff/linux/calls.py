"""A program of system calls as data, and its image in memory. Pure; spawn.py performs it.

    program = Program()
    tree = program.call("fsmount", fs, 1, 0)           what a call answers can be an argument of later ones
    program.call("move_mount", tree, b"", …)
    missing = program.call("mkdirat", …, may_fail=errors(EEXIST))
    …                                                  passed over after a failure that may be …
    program.resume(missing)                            … up to here
    program.go_back(interrupted, waiting)              or: go on again with an earlier call

The image is position dependent: texts and structures, then records of twelve words, which point to them. Only
a little-endian machine of 64 bits is meant.
"""

import struct
from array import array
from typing import Final, NamedTuple, TypeAlias

# number, six arguments, what came of it, two places to copy that to (or 0), the failures that may be (bit n
# is errno n, the last one all others), how many bytes to go on after one of them
RECORD: Final = struct.Struct("<12Q")
END: Final = (1 << 64) - 1  # as a number: the program ends here; at 0 it does, too
PENDING: Final = 1 << 62  # as a result: not performed so far
FIRST_ERROR: Final = (1 << 64) - 4095  # results from here on are negative error numbers
ANY_ERROR: Final = (1 << 64) - 2

_WORD: Final = struct.Struct("<Q")
_LENGTH: Final = 12
_RESULT, _FIRST_USE, _FURTHER = 7, 8, 11  # positions in a record
_EBADF: Final = 1 << 9


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
    """data: to be laid at the base it was made for. start: where in it the records begin. places: rider →
    addresses where its number belongs.
    """

    data: bytes
    start: int
    places: dict[str, tuple[int, ...]]


def errors(*numbers: int) -> int:
    """Failures that may be, as `Program.call` takes them. Below 63."""
    return sum(1 << number for number in set(numbers))


class Program:
    """Calls in the order they will be made. numbers: system call name → number. base: a multiple of eight."""

    def __init__(self, numbers: dict[str, int], base: int) -> None:
        self._numbers = numbers
        self._base = base
        self._data = bytearray()
        self._texts: dict[bytes, int] = {}
        self._words: list[int] = []
        self._uses: list[tuple[int, int]] = []  # (index of a call, position of the word it goes to)
        self._riders: list[tuple[str, int]] = []
        self._pointers: list[tuple[int, int]] = []  # (position of a word, position of the word it points to)

    def __len__(self) -> int:
        return len(self._words) // _LENGTH

    def call(self, name: str, *arguments: Argument, may_fail: int = 0) -> Result:
        """One more call. may_fail: the `errors` that do not end the program.

        Integers are passed as they are, bytes as the address of a copy that ends with NUL. KeyError for a
        call that this machine does not have, ValueError for that of number 0: there memory ends that was
        given back.
        """
        words, texts = self._words, self._texts
        at = len(words)
        number = self._numbers[name]
        if not number:
            raise ValueError(f"no program can call {name}")
        words += (number, 0, 0, 0, 0, 0, 0, PENDING, 0, 0, may_fail, RECORD.size)
        position = at
        for value in arguments:
            position += 1
            if isinstance(value, int):
                words[position] = value & END
            elif isinstance(value, bytes):
                words[position] = texts.get(value) or self._text(value)
            elif value is not None:
                words[position] = self._word(value, position)
        return Result(at // _LENGTH)

    def resume(self, failed: Result) -> None:
        """After a failure of that call which may be, the program goes on with the call added next."""
        at = failed.at * _LENGTH
        self._words[at + _FURTHER] = (len(self._words) - at) * _WORD.size

    def go_back(self, failed: Result, earlier: Result) -> None:
        """After a failure of that call which may be, the program goes on with the earlier call."""
        self._words[failed.at * _LENGTH + _FURTHER] = (earlier.at - failed.at) * RECORD.size & END

    def point(self, call: Result, argument: int, into: Result, at: int) -> None:
        """Let an argument of a call be the address of argument `at` of another (both from 0): what the kernel
        writes there is what that other call is given.
        """
        self._pointers.append((call.at * _LENGTH + 1 + argument, into.at * _LENGTH + 1 + at))

    def room(self, size: int) -> int:
        """The address of so many bytes, all 0, for the kernel to write to."""
        return self._put(bytes(size))

    def skip(self) -> Result:
        """A call that fails in any case, so that the program goes on where its result is resumed."""
        return self.call("close", -1, may_fail=_EBADF)

    def image(self) -> Image:
        """The whole program. ValueError: a result is used a third time."""
        start = self._base + len(self._data)
        words = [*self._words, END, *[0] * (_LENGTH - 1)]
        for index, position in self._uses:
            use = index * _LENGTH + _FIRST_USE
            if words[use]:
                use += 1
                if words[use]:
                    raise ValueError(f"the result of call {index} is used a third time")
            words[use] = start + position * _WORD.size
        for position, target in self._pointers:
            words[position] = start + target * _WORD.size
        places: dict[str, tuple[int, ...]] = {}
        for name, position in self._riders:
            places[name] = (*places.get(name, ()), start + position * _WORD.size)
        return Image(bytes(self._data) + array("Q", words).tobytes(), len(self._data), places)

    def _word(self, value: "Result | Rider | Pointers | Counted", position: int) -> int:
        match value:
            case Result():
                self._uses.append((value.at, position))
                return 0
            case Rider():
                self._riders.append((value.name, position))
                return 0
            case Pointers():
                addresses = [*map(self._text, value.texts), 0]
                return self._put(struct.pack(f"<{len(addresses)}Q", *addresses))
            case Counted():
                return self._put(struct.pack("<QQ", value.length, self._text(value.data)))

    def _text(self, text: bytes) -> int:
        found = self._texts.get(text)
        if found is None:
            found = self._texts[text] = self._put(text + b"\0")
        return found

    def _put(self, data: bytes) -> int:
        address = self._base + len(self._data)
        self._data += data
        self._data += bytes(-len(data) % _WORD.size)
        return address


def result(memory: bytes | memoryview, index: int, at: int = 0) -> int:
    """What came of that call: PENDING, or as the kernel says it (a negative error number).

    memory: where the program was performed. at: where in it the records begin.
    """
    value: int = _WORD.unpack_from(memory, at + index * RECORD.size + _RESULT * _WORD.size)[0]
    return value - (1 << 64) if value >= FIRST_ERROR else value
