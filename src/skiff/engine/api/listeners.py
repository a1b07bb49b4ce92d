"""Where clients come in: unix sockets, tcp with or without TLS, sockets inherited from systemd.

unix:///run/skiff/skiff.sock    owner root, the group of the settings, 0660
tcp://127.0.0.1:2375            2376 when TLS is asked for
fd://  fd://name  fd://3        LISTEN_FDS: all of them, those of that name, that one
"""

import grp
import logging
import os
import socket
import ssl
import stat
from collections.abc import Mapping
from typing import NamedTuple

from skiff.engine.settings import Settings
from skiff.errors import InvalidParameter, SkiffError
from skiff.paths import DOCKER_SOCKET

log = logging.getLogger(__name__)

FIRST_INHERITED = 3  # sd_listen_fds(3)


class Listener(NamedTuple):
    """socket: bound and listening. path: of a unix socket that is ours to remove, else empty."""

    socket: socket.socket
    address: str
    path: str = ""
    tls: ssl.SSLContext | None = None


def open_all(
    settings: Settings, environment: Mapping[str, str], *, default: str, docker: str = str(DOCKER_SOCKET)
) -> list[Listener]:
    """A listener for each host of the settings; for `default` when there is none.

    docker: where Docker's own clients look first, for settings that ask for it.
    """
    opened: list[Listener] = []
    try:
        for host in settings.hosts or (default,):
            opened.extend(_open(host, settings, environment))
        if settings.docker_socket:
            opened.extend(_if_free(docker, settings.group))
    except BaseException:
        for listener in opened:
            close(listener)
        raise
    return opened


def close(listener: Listener) -> None:
    listener.socket.close()
    if listener.path:
        try:
            os.unlink(listener.path)
        except FileNotFoundError:
            pass


def _open(host: str, settings: Settings, environment: Mapping[str, str]) -> list[Listener]:
    scheme, _, rest = host.partition("://")
    match scheme:
        case "unix":
            return [_unix(rest, settings.group)]
        case "tcp":
            return [_tcp(rest, settings)]
        case "fd":
            return _inherited(rest, environment)
        case _:
            raise InvalidParameter(f"invalid bind address format: {host}")


def _if_free(path: str, group: str) -> list[Listener]:
    """What has the path already keeps it."""
    try:
        return [_unix(path, group)]
    except SkiffError as error:
        log.warning("not listening at %s: %s", path, error)
        return []


def _unix(path: str, group: str) -> Listener:
    _clear(path)
    os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect between bind and chmod.
    mask = os.umask(0o177)
    try:
        listening.bind(path)
    except OSError as error:
        listening.close()
        raise SkiffError(
            f"can't create unix socket {path}: {(error.strerror or str(error)).lower()}"
        ) from error
    finally:
        os.umask(mask)
    if os.geteuid() == 0:
        os.chown(path, 0, _group(group, path))
    os.chmod(path, 0o660)
    listening.listen(4096)
    return Listener(listening, f"unix://{path}", path)


def _clear(path: str) -> None:
    """Remove a socket that nobody answers on. SkiffError if an engine does."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise SkiffError(f"can't create unix socket {path}: it exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise SkiffError(f"can't create unix socket {path}: another engine answers there")


def _group(name: str, path: str) -> int:
    """The id of a group given by name or number; 0, with a note, when there is none of that name."""
    if not name:
        return 0
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name.isdecimal():
            return int(name)
    log.warning(
        "could not change group of %s to %s: group %s not found; only root may connect", path, name, name
    )
    return 0


def _tcp(address: str, settings: Settings) -> Listener:
    tls = _tls(settings) if settings.listens_with_tls else None
    if tls is None:
        log.warning("tcp://%s listens without TLS: whoever can reach it is root on this host", address)
    listening = tcp_socket(address, 2376 if settings.listens_with_tls else 2375)
    return Listener(listening, f"tcp://{address}", tls=tls)


def tcp_socket(address: str, default_port: int) -> socket.socket:
    """Bound and listening. InvalidParameter, SkiffError."""
    host, port = split_address(address, default_port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=4096)
    except OSError as error:
        raise SkiffError(
            f"failed to listen on tcp://{address}: {(error.strerror or str(error)).lower()}"
        ) from error


def split_address(address: str, default_port: int) -> tuple[str, int]:
    """`127.0.0.1:2375`, `:2375`, `[::1]:2375`, `host`. InvalidParameter."""
    host, colon, port = address.rstrip("/").rpartition(":")
    if not colon or port.endswith("]"):
        host, port = address.rstrip("/"), str(default_port)
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidParameter(f"invalid bind address format: tcp://{address}")
    if host.startswith("[") != host.endswith("]") or ("/" in host) or (":" in host and host[0] != "["):
        raise InvalidParameter(f"invalid bind address format: tcp://{address}")
    return host.strip("[]") or "0.0.0.0", int(port)


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """A server's side of TLS, from paths of PEM files: a chain and its key. OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # an encrypted key is refused: without this OpenSSL would ask for its passphrase at the engine's terminal
    context.load_cert_chain(certificate, key, password="")
    return context


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = server_context(settings.tlscert, settings.tlskey)
        if settings.tlsverify:
            context.load_verify_locations(settings.tlscacert)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(
            f"cannot use TLS with --tlscert {settings.tlscert!r} --tlskey {settings.tlskey!r} "
            f"--tlscacert {settings.tlscacert!r}: {error}"
        ) from error
    return context


def _inherited(wanted: str, environment: Mapping[str, str]) -> list[Listener]:
    """Sockets passed by the service manager, sd_listen_fds(3)."""
    count = environment.get("LISTEN_FDS", "0")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or count == "0":
        raise SkiffError(
            "no sockets found via socket activation: make sure the service was started by systemd"
        )
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    fds = range(FIRST_INHERITED, FIRST_INHERITED + int(count))
    if wanted and wanted != "*":
        if wanted.isdecimal():
            fds_wanted = [fd for fd in fds if fd == int(wanted)]
        else:
            fds_wanted = [fd for fd, name in zip(fds, names, strict=False) if name == wanted]
    else:
        fds_wanted = list(fds)
    if not fds_wanted:
        raise SkiffError(f"no such systemd socket: {wanted}")
    listeners = []
    for fd in fds_wanted:
        os.set_inheritable(fd, False)
        listeners.append(Listener(socket.socket(fileno=fd), f"fd://{fd}"))
    return listeners
