"""A proxy before a registry and its token server that spoils answers: cut, late, of a wrong length, false."""

import asyncio
import re
import socket
import struct

from tests.fakes.local_server import LocalServer

KINDS = ("token", "manifests", "config", "blobs")
FAULTS = (
    "nothing", "status", "headers", "body", "reset", "short", "long", "corrupt", "drip", "503", "429",
    "garbage",
)  # fmt: skip


class Spoiler(LocalServer):
    """faults: kind of answer → faults of the next ones, each used once. seen: every request, with its Range.

    Kinds: token, manifests, blobs, and config for the blobs in `configs`. targets: address of the registry,
    and of the token server, which is asked for what begins with /token.
    """

    def __init__(self) -> None:
        self.faults: dict[str, list[str]] = {}
        self.configs: set[str] = set()
        self.targets = ("", "")
        self.seen: list[tuple[str, str]] = []

    def kind(self, path: str) -> str:
        if path.startswith("/token"):
            return "token"
        if path.rpartition("/")[2] in self.configs:
            return "config"
        return next((kind for kind in ("manifests", "blobs") if f"/{kind}/" in path), "")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer: every connection ends after it."""
        try:
            first = await reader.readexactly(1)
            if first == b"\x16":
                return  # TLS, which is not spoken here
            request = first + await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ")[1].decode()
            kind = self.kind(path)
            asked = re.search(rb"\r\nrange: bytes=(\d+)", request, re.I)
            self.seen.append((kind, asked[1].decode() if asked else ""))
            head, body = await self._answer(request, path)
            is_asked_for = head[9:10] == b"2"  # the 401 before a token is not what a kind is about
            waiting = (self.faults.get(kind) if is_asked_for else None) or [""]
            await _spoilt(waiting.pop(0), writer, head, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: bytes, path: str) -> tuple[bytes, bytes]:
        host, _, port = self.targets[path.startswith("/token")].partition(":")
        upstream, down = await asyncio.open_connection(host, int(port))
        down.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        head, _, body = (await upstream.read(-1)).partition(b"\r\n\r\n")
        down.close()
        return head, body


async def _spoilt(fault: str, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
    whole, half = head + b"\r\n\r\n", len(body) // 2
    match fault:
        case "":
            writer.write(whole + body)
        case "nothing":
            pass
        case "status":
            writer.write(whole[:7])
        case "headers":
            writer.write(whole[: len(head) // 2])
        case "body":
            writer.write(whole + body[:half])
        case "reset":
            writer.write(whole + body[:half])
            await writer.drain()
            await asyncio.sleep(0.05)
            linger = struct.pack("ii", 1, 0)  # closing sends RST
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        case "short":
            writer.write(_sized(whole, half) + body[:half])
        case "long":
            writer.write(_sized(whole, len(body) + 100) + body)
        case "corrupt":
            writer.write(whole + body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :])
        case "drip":
            step = len(body) // 10 + 1
            for at in range(0, len(body), step):
                writer.write((b"" if at else whole) + body[at : at + step])
                await writer.drain()
                await asyncio.sleep(0.03)
        case "503":
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        case "429":
            said = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slowly"}]}'
            writer.write(
                b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: %d\r\n\r\n" % len(said)
            )
            writer.write(said)
        case "garbage":
            writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    await writer.drain()


def _sized(head: bytes, length: int) -> bytes:
    return re.sub(rb"(?i)content-length: \d+", b"Content-Length: %d" % length, head)
