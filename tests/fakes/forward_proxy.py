"""A forward proxy that wants a password: CONNECT for TLS, absolute URLs for the rest. Notes requests."""

import asyncio
import base64
import contextlib

from tests.fakes.local_server import LocalServer


class ForwardProxy(LocalServer):
    """user: `name:password`; empty: everybody may. names: where the hosts that only it knows really are.

    asked: the first line of each request. refused: how many came without the right password.
    """

    def __init__(self, user: str = "", names: dict[str, str] | None = None) -> None:
        self.user = user
        self.names = names or {}
        self.asked: list[str] = []
        self.refused = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head.partition("\r\n")[0])
            expected = base64.b64encode(self.user.encode()).decode()
            if self.user and f"proxy-authorization: basic {expected}\r\n".lower() not in head.lower():
                self.refused += 1
                writer.write(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b'Proxy-Authenticate: Basic realm="proxy"\r\nContent-Length: 0\r\n\r\n'
                )
                await writer.drain()
                return
            method, target, _ = head.split(" ", 2)
            where = target if method == "CONNECT" else target.split("/")[2]
            host, _, port = self.names.get(where, where).rpartition(":")
            upstream, down = await asyncio.open_connection(host, int(port))
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                down.write(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
            await asyncio.wait(
                {asyncio.ensure_future(_pour(reader, down)), asyncio.ensure_future(_pour(upstream, writer))},
                return_when=asyncio.FIRST_COMPLETED,
            )
            down.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
