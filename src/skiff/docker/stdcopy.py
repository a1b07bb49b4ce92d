"""The frames in which stdout and stderr share one stream. Pure; light enough for a monitor.

    frame := stream:1 byte (0 stdin, 1 stdout, 2 stderr) · 000000 · length:4 bytes big-endian · payload

Engine API, ContainerAttach § Stream format.
"""

from struct import Struct as Packing

STDIN, STDOUT, STDERR = 0, 1, 2
HEADER_SIZE = 8
_HEADER = Packing(">B3xI")


def header(stream: int, length: int) -> bytes:
    """The eight bytes before a payload of that length."""
    return _HEADER.pack(stream, length)


def frame(stream: int, payload: bytes) -> bytes:
    """A whole frame."""
    return _HEADER.pack(stream, len(payload)) + payload


def split(buffer: bytes | bytearray) -> tuple[list[tuple[int, bytes]], int]:
    """The whole frames at the start of buffer as (stream, payload), and how many bytes they took.

    ValueError when it is no such stream.
    """
    frames = []
    at = 0
    while len(buffer) - at >= HEADER_SIZE:
        stream, length = _HEADER.unpack_from(buffer, at)
        if stream > 3 or buffer[at + 1 : at + 4] != b"\0\0\0":
            raise ValueError(f"unrecognized stream: {stream}")
        if len(buffer) - at - HEADER_SIZE < length:
            break
        start = at + HEADER_SIZE
        frames.append((stream, bytes(buffer[start : start + length])))
        at = start + length
    return frames, at
