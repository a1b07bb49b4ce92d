"""Where an engine listens, and how to reach it: unix, tcp (with or without TLS), ssh.

    unix:///run/skiff/skiff.sock   tcp://host:2375   ssh://user@host:22/path/to.sock

Errors carry Docker's words: people and programs look for them.
"""

from __future__ import annotations

import _socket
import posix

from skiff.errors import Forbidden, InvalidParameter, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.client.connection import Socket

DEFAULT_SOCKET = "/run/skiff/skiff.sock"
DEFAULT_HOST = f"unix://{DEFAULT_SOCKET}"


class CannotConnect(Unavailable):
    """Nobody listens there."""


class PermissionDenied(Forbidden):
    """The socket is not ours to open."""


class TlsFiles:
    """CA, certificate, key; verify: is the server's name checked?"""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str = "", cert: str = "", key: str = "", *, verify: bool = True) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


class Endpoint:
    """A parsed host. kind: unix, tcp or ssh; is_default: nothing chose it, so an engine may be started
    for it.
    """

    __slots__ = (
        "address",
        "host_header",
        "is_default",
        "kind",
        "path",
        "port",
        "program",
        "tls",
        "url",
        "user",
    )

    def __init__(
        self, url: str, *, tls: TlsFiles | None = None, is_default: bool = False, program: str = "docker"
    ) -> None:
        """program: whose `system dial-stdio` ssh runs over there. Raises InvalidParameter."""
        self.program = program
        self.url = url
        self.tls = tls
        self.is_default = is_default
        self.user, self.address, self.port, self.path = "", "", 0, ""
        self.host_header = "skiff"
        scheme, separator, rest = url.partition("://")
        if not separator:
            scheme, rest = "tcp", url
        if scheme == "unix":
            self.kind, self.path = "unix", rest
            if not rest:
                raise InvalidParameter(f"unable to parse docker host `{url}`")
            return
        if scheme in ("http", "https"):
            scheme = "tcp"
        if scheme not in ("tcp", "ssh"):
            raise InvalidParameter(
                f"Failed to initialize: unable to resolve docker endpoint: invalid bind address format: {url}"
            )
        self.kind = scheme
        place, slash, path = rest.partition("/")
        self.path = slash + path if path else ""
        self.user, _, place = place.rpartition("@")
        if place.startswith("["):
            self.address, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        else:
            self.address, _, port = place.partition(":")
        if port and not port.isdigit():
            raise InvalidParameter(f"unable to parse docker host `{url}`: invalid port {port!r}")
        self.port = int(port or 0)
        if scheme == "tcp":
            self.address = self.address or "127.0.0.1"
            self.port = self.port or (2376 if tls else 2375)
            self.host_header = f"{place or self.address}"
        elif not self.address:
            raise InvalidParameter(f"unable to parse docker host `{url}`: no host")


def dial(endpoint: Endpoint) -> Socket:
    """A connected socket. Raises CannotConnect, PermissionDenied."""
    if endpoint.kind == "unix":
        return _dial_unix(endpoint)
    if endpoint.kind == "ssh":
        return _dial_ssh(endpoint)
    return _dial_tcp(endpoint)


def _dial_unix(endpoint: Endpoint) -> Socket:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(endpoint.path)
    except PermissionError as error:
        sock.close()
        raise PermissionDenied(
            f"permission denied while trying to connect to the Docker daemon socket at {endpoint.url}: "
            f"connect: permission denied\n"
            f"(as root: `usermod -aG docker {_user()}`, then log in again)"
        ) from error
    except OSError as error:
        sock.close()
        raise _cannot_connect(endpoint) from error
    return sock


def _user() -> str:
    name = posix.environ.get(b"USER") or posix.environ.get(b"LOGNAME") or b"$USER"
    return name.decode("utf-8", "replace")


def _cannot_connect(endpoint: Endpoint) -> CannotConnect:
    return CannotConnect(
        f"Cannot connect to the Docker daemon at {endpoint.url}. Is the docker daemon running?"
    )


def _dial_tcp(endpoint: Endpoint) -> Socket:
    try:
        found = _socket.getaddrinfo(endpoint.address, endpoint.port, 0, _socket.SOCK_STREAM)
    except OSError as error:
        raise CannotConnect(
            f"error during connect: lookup {endpoint.address}: {error.strerror or error}"
        ) from error
    for family, kind, protocol, _, address in found:
        sock = _socket.socket(family, kind, protocol)
        try:
            sock.connect(address)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            continue
        if endpoint.tls is None:
            return sock
        from skiff.client.tls import wrap

        return wrap(sock, endpoint.address, endpoint.tls)
    raise _cannot_connect(endpoint)


def _dial_ssh(endpoint: Endpoint) -> Socket:
    """Ssh as a child whose stdin and stdout are our socket; over there, `dial-stdio` joins it to the
    engine.
    """
    words = ["ssh"]
    if endpoint.user:
        words += ["-l", endpoint.user]
    if endpoint.port:
        words += ["-p", str(endpoint.port)]
    words += ["-o", "ConnectTimeout=30", "-T", "--", endpoint.address]
    if endpoint.path:
        quoted = "'" + f"unix://{endpoint.path}".replace("'", "'\\''") + "'"
        words += [f"{endpoint.program} --host {quoted} system dial-stdio"]
    else:
        words += [f"{endpoint.program} system dial-stdio"]
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    child = posix.fork()
    if child == 0:
        try:
            posix.dup2(theirs.fileno(), 0)
            posix.dup2(theirs.fileno(), 1)
            # ssh dies by its pipe, not by our Ctrl-C: the terminal's signals are for the container.
            posix.setsid()
            for folder in posix.environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
                try:
                    posix.execve(folder + b"/ssh", words, posix.environ)
                except OSError:
                    continue
            posix.write(2, b"skiff: ssh: command not found\n")
        finally:
            posix._exit(127)
    theirs.close()
    socket: Socket = ours
    return socket
