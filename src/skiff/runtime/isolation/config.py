"""A bundle's config.json, and the seccomp filters of those seen before."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import DecodeError, Raw, Struct, json

from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Seccomp, Spec
from skiff.runtime.isolation.create import filter_of
from skiff.runtime.isolation.handshake import StepFailed, reason
from skiff.runtime.protocol import Create

FILTERS_KEPT: Final = 64
MAX_PROFILE: Final = 128 * 1024
_NULL: Final = Raw(b"null")


class _Linux(Struct, frozen=True, rename="camel"):
    seccomp: Raw = _NULL


class _Glance(Struct, frozen=True):
    """Where the profile is. A spec without `linux` is for init to refuse."""

    linux: _Linux = _Linux()


_decode_spec = json.Decoder(Spec).decode
_decode_seccomp = json.Decoder(Seccomp).decode
_decode_glance = json.Decoder(_Glance).decode


def read(bundle: str) -> bytes:
    """The bytes of config.json. StepFailed."""
    try:
        fd = os.open(f"{bundle}/config.json", os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise StepFailed("config.json", error.errno or 0, reason(error)) from error


class Reader:
    """Reads specs with their filters: a seccomp profile, most of a config.json, is compiled once."""

    def __init__(self, teach: Callable[[bytes], None] = lambda profile: None) -> None:
        """teach: told of each profile that had to be compiled."""
        self._filters: dict[bytes, Filter] = {}
        self._teach = teach

    def spec(self, wish: Create, config: bytes | None = None) -> tuple[Spec, Filter | None]:
        """What is in the bundle, or the config at hand; a spec without its seccomp profile. StepFailed."""
        found, filter = self.decode(read(wish.bundle) if config is None else config)
        if found.process is not None and found.process.terminal != wish.stdio.terminal:
            raise StepFailed("config.json", text="process.terminal differs from what the engine asked for")
        return found, filter

    def decode(self, config: bytes) -> tuple[Spec, Filter | None]:
        """The same of a config.json at hand. StepFailed."""
        with _parsing():
            profile = bytes(_decode_glance(config).linux.seccomp)
            return _decode_spec(config.replace(profile, b"null", 1)), self._filter(profile)

    def learn(self, profile: bytes) -> None:
        """Compile the filter of a profile, unless it is known. StepFailed."""
        with _parsing():
            self._filter(profile)

    def _filter(self, profile: bytes) -> Filter | None:
        if profile == b"null":
            return None
        filter = self._filters.get(profile)
        if filter is None:
            filter = filter_of(_decode_seccomp(profile))
            if len(self._filters) >= FILTERS_KEPT:
                self._filters.pop(next(iter(self._filters)))
            self._filters[profile] = filter
            self._teach(profile)
        return filter


@contextmanager
def _parsing() -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        raise StepFailed("config.json", text=str(error)) from error
