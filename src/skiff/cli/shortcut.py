"""The short way to our own modules: one look at the source, one at what was compiled from it.

    sys.meta_path: Shortcut ── nothing compiled, or from another source ──► the interpreter's own finders

Those ask the file system some eight times for each module, and decide in Python; a command needs twenty. It
is loaded before anything else of ours, and imports only what is built in.
"""

import sys
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads
from posix import close, open, read, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec as Spec
    from types import ModuleType

_ModuleSpec = type(sys.__spec__)
_SUFFIX = f".{sys.implementation.cache_tag}.pyc"
_HEADER = 16  # bytes: magic, flags, the source's time and size; importlib, PEP 552
_O_CLOEXEC = 0o2000000


class Future:
    """All that a compiled module asks of __future__: the name. The compiler has heeded it long before."""

    annotations = None


class Shortcut:
    """Finds and loads the modules of one package. root: the folder that it lies in."""

    def __init__(self, root: str, package: str) -> None:
        self.root = root
        self.package = package

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "Spec | None":
        """See importlib.abc.MetaPathFinder; None where the short way does not lead to it."""
        if name.partition(".")[0] != self.package:
            return None
        place = f"{self.root}/{name.replace('.', '/')}"
        folder, _, last = place.rpartition("/")
        return self._found(name, f"{place}.py", f"{folder}/__pycache__/{last}{_SUFFIX}") or self._found(
            name, f"{place}/__init__.py", f"{place}/__pycache__/__init__{_SUFFIX}", [place]
        )

    def _found(
        self, name: str, source: str, compiled: str, modules: "list[str] | None" = None
    ) -> "Spec | None":
        try:
            about = stat(source)
            fd = open(compiled, _O_CLOEXEC)
        except OSError:
            return None
        try:
            data = read(fd, 1 << 20)
        finally:
            close(fd)
        time, size = int(about.st_mtime) & 0xFFFFFFFF, about.st_size & 0xFFFFFFFF
        stamp = MAGIC_NUMBER + bytes(4) + time.to_bytes(4, "little") + size.to_bytes(4, "little")
        if data[:_HEADER] != stamp:
            return None
        spec = _ModuleSpec(name, self, origin=source, loader_state=data)  # type: ignore[arg-type]
        spec.has_location = True
        spec.cached = compiled
        spec.submodule_search_locations = modules
        return spec

    def create_module(self, spec: "Spec") -> None:
        """An ordinary module."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run its code in it."""
        spec = module.__spec__
        assert spec is not None
        data, spec.loader_state = spec.loader_state, None
        exec(loads(memoryview(data)[_HEADER:]), module.__dict__)
