"""Volumes in the hands of a program."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from skiff.client.connection import EngineError
from skiff.client.engine import EngineClient


class Volume:
    """One volume, by its name. A `with` block removes it at its end."""

    def __init__(self, client: Callable[[], EngineClient], name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        return f"<Volume {self.name}>"

    def __enter__(self) -> "Volume":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove(force=True)

    def inspect(self) -> dict[str, Any]:
        return self._client().volume(self.name)

    @property
    def mountpoint(self) -> str:
        """Where its files are on the engine's machine."""
        return str(self.inspect()["Mountpoint"])

    def remove(self, *, force: bool = False) -> None:
        """force: one that is not there is no error."""
        try:
            self._client().remove_volume(self.name, force=force)
        except EngineError as error:
            if error.status != 404 or not force:
                raise
