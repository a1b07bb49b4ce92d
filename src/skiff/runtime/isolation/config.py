"""A bundle's config.json: whole, or at a glance; and the seccomp filters of those seen before.

A monitor outlives its start by days: what it does not decode it need not hold. At a glance only the fields
that decide how the container is born are read.
"""

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


class _Namespace(Struct, frozen=True):
    type: str = ""
    path: str = ""


class _Linux(Struct, frozen=True, rename="camel"):
    cgroups_path: str = ""
    namespaces: tuple[_Namespace, ...] = ()
    seccomp: Raw = _NULL


class Glance(Struct, frozen=True):
    """The few fields of a Spec that its parent has to know. A spec without `linux` is for init to refuse."""

    linux: _Linux = _Linux()
    hooks: Raw = _NULL

    @property
    def has_hooks(self) -> bool:
        return bytes(self.hooks) not in (b"null", b"{}")

    def namespace(self, kind: str) -> str | None:
        """Its path, "" for a new one, None for ours."""
        return next((found.path for found in self.linux.namespaces if found.type == kind), None)


_decode_spec = json.Decoder(Spec).decode
_decode_seccomp = json.Decoder(Seccomp).decode
_decode_glance = json.Decoder(Glance).decode


def read(bundle: str) -> bytes:
    """The bytes of config.json. StepFailed."""
    try:
        fd = os.open(f"{bundle}/config.json", os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise StepFailed("config.json", error.errno or 0, reason(error)) from error


def glance(config: bytes) -> Glance:
    """What the parent has to know. StepFailed."""
    with _parsing():
        return _decode_glance(config)


class Reader:
    """Reads specs with their filters: a seccomp profile, most of a config.json, is compiled once."""

    def __init__(self, teach: Callable[[bytes], None] = lambda profile: None) -> None:
        """teach: told of each profile that had to be compiled."""
        self._filters: dict[bytes, Filter] = {}
        self._teach = teach

    def spec(self, wish: Create) -> tuple[Spec, Filter | None]:
        """What is in the bundle; the spec comes without its seccomp profile. StepFailed."""
        config = read(wish.bundle)
        found, filter = self.decode(config)
        if found.process is not None and found.process.terminal != wish.stdio.terminal:
            raise StepFailed("config.json", text="process.terminal differs from what the engine asked for")
        return found, filter

    def decode(self, config: bytes) -> tuple[Spec, Filter | None]:
        """The same of a config.json at hand. StepFailed."""
        profile = bytes(glance(config).linux.seccomp)
        with _parsing():
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
