"""A program read back from its image, for tests: the calls by name, with texts for addresses."""

from skiff.linux import syscalls
from skiff.linux.calls import END, RECORD, Program

NUMBERS = syscalls.numbers("x86_64")
NAMES = {number: name for name, number in NUMBERS.items()}
BASE = 0x7F0000000000


def calls(program: Program) -> list[tuple[object, ...]]:
    """(name, argument…): numbers, or the text that an address leads to."""
    data, start, _ = program.image()
    found = []
    for index in range(len(program)):
        number, *arguments = RECORD.unpack_from(data, start + index * RECORD.size)[:7]
        while arguments and not arguments[-1]:
            arguments.pop()
        found.append((NAMES[number], *(_read(data, word) for word in arguments)))
    return found


def names(program: Program) -> list[str]:
    return [str(call[0]) for call in calls(program)]


def _read(data: bytes, word: int) -> object:
    if BASE <= word < BASE + len(data):
        return data[word - BASE : data.index(b"\0", word - BASE)]
    return word - END - 1 if word > END >> 1 else word
