"""The engine as a process: boot, serve, reload, shut down.

    lock ─► assemble ─► reconcile with what runs ─► listen ─► READY=1 ─► … ─► SIGTERM ─► close ─► leave

Containers are not the engine's children. Whenever it leaves, and however, they go on; the next engine finds
them. So SIGTERM ends requests, not containers (what Docker calls live-restore is not an option here).
"""

import asyncio
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from skiff import paths
from skiff.engine import settings as configuration
from skiff.engine.api import listeners
from skiff.engine.assembly import Engine, Live, assemble
from skiff.engine.settings import Settings
from skiff.engine.system.command_line import CommandLine
from skiff.errors import Forbidden, SkiffError
from skiff.linux import capabilities

log = logging.getLogger("skiff")


def run(settings: Settings, arguments: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT. SkiffError when it cannot start."""
    _require_rights()
    _log_to_stderr(settings)
    with ExitStack() as held:
        _take(settings, held)
        try:
            asyncio.run(_serve(settings, arguments))
        except* SkiffError as group:
            raise SkiffError("; ".join(str(error) for error in _leaves(group))) from group


def _require_rights() -> None:
    effective, _, _ = capabilities.get_sets()
    if not effective & capabilities.mask(["CAP_SYS_ADMIN"]):
        raise Forbidden(
            "the engine makes namespaces, mounts and networks: it needs root, with CAP_SYS_ADMIN "
            "(`skiff check` tells what else is missing)"
        )


def _log_to_stderr(settings: Settings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    form = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    form.converter = time.gmtime
    handler.setFormatter(form)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_level(settings))
    # asyncio tells at debug level of every selector it makes.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _level(settings: Settings) -> str:
    level = "debug" if settings.debug else settings.log_level
    return {"warn": "WARNING", "fatal": "CRITICAL"}.get(level, level.upper())


def _leaves(group: BaseExceptionGroup[SkiffError]) -> Iterator[SkiffError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _take(settings: Settings, held: ExitStack) -> None:
    """The two roots and the pid file are this engine's alone. SkiffError if another one has them.

    Nobody else may pass through the data root: below it lie set-user-id programs that containers made.
    """
    for root, mode in ((settings.data_root, 0o710), (settings.exec_root, 0o711)):
        try:
            os.makedirs(root, mode=mode, exist_ok=True)
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fchmod(fd, mode)
        except OSError as error:
            raise SkiffError(f"cannot use {root}: {(error.strerror or str(error)).lower()}") from error
        held.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SkiffError(f"another engine works in {root}") from error
    pidfile = settings.pidfile or str(paths.RunPaths(settings.exec_root).pid)
    _write_pidfile(pidfile)
    held.callback(_remove, pidfile)


def _write_pidfile(path: str) -> None:
    try:
        with open(path) as file:
            pid = file.read().strip()
    except FileNotFoundError:
        pid = ""
    if pid.isdecimal() and int(pid) != os.getpid() and _is_an_engine(pid):
        raise SkiffError(
            f"pid file found, ensure skiffd is not running or delete {path}: "
            f"process with PID {pid} is still running"
        )
    try:
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise SkiffError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def _is_an_engine(pid: str) -> bool:
    """False for a number that another program has got since."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
    except OSError:
        return False
    return b"skiffd" in words or b"skiff.engine" in words


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


async def _serve(settings: Settings, arguments: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    live = Live(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, live, arguments)
    engine = assemble(live)
    try:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(engine.run())
            await engine.ready.wait()
            await _listen(engine, live, stop)
            work.cancel()
    finally:
        await engine.close()


async def _listen(engine: Engine, live: Live, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    settings = live.settings
    opened = listeners.open_all(
        settings, os.environ, default=f"unix://{paths.RunPaths(settings.exec_root).socket}"
    )
    loaded = CommandLine(
        str(paths.RunPaths(settings.exec_root).command_line),
        str(paths.DataPaths(settings.data_root).front),
        [listener.path for listener in opened if listener.path],
    )
    factory = engine.app.server()
    servers = []
    try:
        for listener in opened:
            if listener.socket.family == socket.AF_UNIX:
                server = await loop.create_unix_server(factory, sock=listener.socket, ssl=listener.tls)
            else:
                server = await loop.create_server(factory, sock=listener.socket, ssl=listener.tls)
            servers.append(server)
            log.info("API listens on %s", listener.address)
        # What exists by now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.enable()
        if settings.preload:
            engine.app.command_line_called = loaded.called
        _notify("READY=1")
        await stop.wait()
    finally:
        _notify("STOPPING=1")
        for server in servers:
            server.close()
        for listener in opened:
            listeners.close(listener)
        log.info("shutting down; containers go on")
        try:
            async with asyncio.timeout(live.settings.shutdown_timeout):
                await engine.app.finish()
        except TimeoutError:
            log.warning("requests were still in progress after %d s", live.settings.shutdown_timeout)
        await loaded.close()
        await factory.shutdown(0.1)


def _reload(live: Live, arguments: Sequence[str]) -> None:
    try:
        live.settings = configuration.reload(live.settings, arguments)
    except SkiffError as error:
        log.error("the configuration stays as it was: %s", error)
        return
    logging.getLogger().setLevel(_level(live.settings))
    log.info("reloaded %s", live.settings.config_file)
    live.reloaded()


def _notify(state: str) -> None:
    """Tell the service manager, if there is one. sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        try:
            manager.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            log.warning("cannot notify the service manager: %s", error)
