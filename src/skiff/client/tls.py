"""TLS to an engine. The only module of the command line that imports ssl: on the way to tcp:// with TLS."""

import _socket
import socket
import ssl
from typing import TYPE_CHECKING

from skiff.client.endpoint import CannotConnect, TlsFiles

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


class TlsSocket(ssl.SSLSocket):
    """Takes flags that TLS has no use for. Sends whole: a TLS stream cannot be half-sent and left."""

    def send(self, data: "Buffer", flags: int = 0) -> int:
        return super().send(data)

    def shutdown(self, how: int) -> None:
        """Only the write side: `close_notify` tells the engine that no more input comes."""
        super().shutdown(how)


def wrap(sock: _socket.socket, name: str, files: TlsFiles) -> ssl.SSLSocket:
    """Takes `sock` over. Raises CannotConnect."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = files.verify
    context.verify_mode = ssl.CERT_REQUIRED if files.verify else ssl.CERT_NONE
    try:
        if files.verify and files.ca:
            context.load_verify_locations(files.ca)
        elif files.verify:
            context.load_default_certs()
        if files.cert:
            context.load_cert_chain(files.cert, files.key or None)
        whole = socket.socket(sock.family, sock.type, sock.proto, sock.detach())
        return context.wrap_socket(whole, server_hostname=name)
    except (OSError, ssl.SSLError) as error:
        raise CannotConnect(f"error during connect: tls: {error}") from error
