"""build --ssh: the engine asks for connections to an agent here; a thread carries each to it.

`--ssh default` is the agent at SSH_AUTH_SOCK; `--ssh id=socket` another one; `--ssh id=key[,key]` an agent
that is started for this build alone and holds those keys.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import stat
import subprocess
import tempfile
import threading

from skiff.errors import InvalidParameter, NotImplementedHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from skiff.cli.session import Session
    from skiff.client.connection import Stream

    Json = dict[str, Any]


class Agents:
    """The agents that the engine may ask for, by id. Close it when the build is over."""

    def __init__(self, session: Session, wishes: Iterable[str]) -> None:
        self._session = session
        self._sockets: dict[str, str] = {}
        self._own: list[_OwnAgent] = []
        for text in wishes:
            id, _, value = text.partition("=")
            self._sockets[id or "default"] = self._socket(id or "default", value)

    @property
    def ids(self) -> list[str]:
        return list(self._sockets)

    def serve(self, messages: Iterable[Json]) -> Iterator[Json]:
        """The messages without those that ask for a connection; these are answered."""
        for message in messages:
            id = (message.get("aux") or {}).get("Agent")
            if id is None:
                yield message
            else:
                where = self._sockets[id]
                token = message["aux"]["Token"]
                threading.Thread(target=self._carry, args=(where, token), daemon=True).start()

    def close(self) -> None:
        for agent in self._own:
            agent.close()

    def _socket(self, id: str, value: str) -> str:
        paths = [path for path in value.split(",") if path]
        if not paths:
            found = self._session.env("SSH_AUTH_SOCK")
            if not found:
                raise InvalidParameter(
                    f"invalid empty ssh agent socket: set SSH_AUTH_SOCK, or name one: --ssh {id}=…"
                )
            paths = [found]
        for path in paths:
            if not os.path.exists(path):
                raise InvalidParameter(f"stat {path}: no such file or directory")
        if stat.S_ISSOCK(os.stat(paths[0]).st_mode):
            if len(paths) > 1:
                raise InvalidParameter("only single socket allowed")
            return paths[0]
        agent = _OwnAgent(paths)
        self._own.append(agent)
        return agent.path

    def _carry(self, where: str, token: str) -> None:
        connection = self._session.another()
        try:
            stream = connection.hijack(f"/skiff/build/agents/{token}/attach")
            with socket.socket(socket.AF_UNIX) as agent:
                agent.connect(where)
                _carried(stream, agent)
            stream.close()
        finally:
            connection.close()


def _carried(stream: Stream, agent: socket.socket) -> None:
    """Both ways, until one side has said all and the other has answered."""
    if stream.early:
        agent.sendall(stream.recv(len(stream.early)))
    while True:
        ready, _, _ = select.select([stream.fileno(), agent.fileno()], [], [])
        if stream.fileno() in ready:
            data = stream.recv()
            if not data:
                return
            agent.sendall(data)
        if agent.fileno() in ready:
            data = agent.recv(1 << 16)
            if not data:
                return
            stream.sendall(data)


class _OwnAgent:
    """An ssh-agent for a few keys."""

    def __init__(self, keys: list[str]) -> None:
        if not (shutil.which("ssh-agent") and shutil.which("ssh-add")):
            raise NotImplementedHere("--ssh with a key needs the programs ssh-agent and ssh-add")
        self._directory = tempfile.mkdtemp(prefix="skiff-agent-")
        self.path = f"{self._directory}/agent"
        # it ends with the command that it was started for, which ends with us, however that comes about
        self._process = subprocess.Popen(
            ["ssh-agent", "-a", self.path, "sh", "-c", "echo; read end"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert self._process.stdout is not None
            self._process.stdout.readline()
            environment = {**os.environ, "SSH_AUTH_SOCK": self.path, "SSH_ASKPASS_REQUIRE": "never"}
            added = subprocess.run(
                ["ssh-add", "-q", *keys],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            if added.returncode:
                raise InvalidParameter(f"failed to parse {', '.join(keys)}: {added.stderr.strip()}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.communicate()
        shutil.rmtree(self._directory, ignore_errors=True)
