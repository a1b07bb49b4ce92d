"""What one command line has in hand: global flags, config.json, the engine — each made when first
asked for.
"""

from __future__ import annotations

import posix
import sys

from skiff.client.config_file import ConfigFile, config_folder
from skiff.client.connection import Connection
from skiff.client.engine import EngineClient
from skiff.client.target import target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.client.endpoint import Endpoint


class Session:
    """`session.engine()` speaks to the chosen engine; `session.config()` is config.json."""

    def __init__(self, top: Parsed) -> None:
        self.top = top
        self.environment = posix.environ
        self._engine: EngineClient | None = None
        self._config: ConfigFile | None = None

    def env(self, name: str) -> str:
        """An environment variable, "" when unset."""
        return self.environment.get(name.encode(), b"").decode("utf-8", "surrogateescape")

    def config(self) -> ConfigFile:
        if self._config is None:
            self._config = ConfigFile.load(config_folder(self.top["config"], self.env))
            if self._config.trouble:
                self.err(f"WARNING: Error {self._config.trouble}")
        return self._config

    def endpoint(self) -> Endpoint:
        """The engine's address. Raises InvalidParameter, NotFound (a context)."""
        return target(self.top, self.env, self.config)

    def engine(self) -> EngineClient:
        """Connected at the first request. One is started when none runs and we may (client/autostart.py)."""
        if self._engine is None:
            self._engine = EngineClient(self.another())
        return self._engine

    def another(self) -> Connection:
        """A connection of its own to the same engine; the caller closes it."""
        endpoint = self.endpoint()
        return Connection(
            endpoint,
            user_headers=self.config().http_headers,
            version=self.env("DOCKER_API_VERSION"),
            on_absent=self._start if endpoint.is_default else None,
            agent="skiff-cli",
        )

    def _start(self) -> bool:
        from skiff.client import autostart

        if not autostart.wanted(self.env, self.config):
            return False
        pid = autostart.start_engine(self.endpoint())
        if pid is not None:
            self.err(f"skiff: started the engine (skiffd, pid {pid})")
        return True

    def err(self, text: str) -> None:
        """One line for a person."""
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
