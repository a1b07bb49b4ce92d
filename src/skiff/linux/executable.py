"""A static executable that performs one program of system calls (calls.py). Pure; ELF-64, elf(5).

0x400000  headers, machine instructions           read, execute
0x500000  texts, structures, records              read, write
"""

import struct
from typing import Final

from skiff.linux import machine
from skiff.linux.calls import RECORD, Image, Result

CODE: Final = 0x400000
DATA: Final = 0x500000  # the base to make the program for
_PAGE: Final = 4096
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_IDENTITY: Final = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bits, little-endian
_ET_EXEC: Final = 2
_MACHINES: Final = {"x86_64": 62}
_PT_LOAD: Final = 1
_PT_GNU_STACK: Final = 0x6474E551
_X, _W, _R = 1, 2, 4


def executable(architecture: str, image: Image, execve: Result) -> bytes:
    """The file's content. KeyError for a machine without code of ours.

    image: made for DATA. execve: a call of it; argv[1], argv[1:] and the environment become its arguments.
    """
    records = DATA + image.start
    code = (
        machine.start(architecture, records, records + execve.at * RECORD.size) + machine.WALK[architecture]
    )
    head = _HEADER.size + 3 * _SEGMENT.size
    header = _HEADER.pack(
        _IDENTITY,
        *(_ET_EXEC, _MACHINES[architecture], 1, CODE + head),
        *(_HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 3, 0, 0, 0),
    )
    length = head + len(code)
    segments = (
        _segment(_PT_LOAD, _R | _X, 0, CODE, length)
        + _segment(_PT_LOAD, _R | _W, _PAGE, DATA, len(image.data))
        + _segment(_PT_GNU_STACK, _R | _W, 0, 0, 0)
    )
    return (header + segments + code).ljust(_PAGE, b"\0") + image.data


def _segment(kind: int, rights: int, offset: int, address: int, length: int) -> bytes:
    return _SEGMENT.pack(kind, rights, offset, address, address, length, length, _PAGE)
