"""What a function in a container came to: its value, or the exception it raised.

The container's answer is a pickle, and a pickle may name any callable of this process. So only plain data,
the exceptions of Python and the classes of the function's own module are let in; more by `trust`.
"""

import io
import pickle
from collections.abc import Iterable
from typing import Any

from skiff.errors import SkiffError

_BUILTINS = frozenset(
    "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple".split()  # noqa: SIM905
)
# module → names that only make data
_DATA = {
    "_codecs": {"encode"},
    "collections": {"ChainMap", "Counter", "OrderedDict", "UserDict", "UserList", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "ipaddress": {"IPv4Address", "IPv4Network", "IPv6Address", "IPv6Network"},
    "pathlib": {"PosixPath", "PurePosixPath"},
    "pathlib._local": {"PosixPath", "PurePosixPath"},
    "types": {"SimpleNamespace"},
    "uuid": {"SafeUUID", "UUID"},
}


class FunctionFailed(SkiffError):
    """A function gave neither a value nor an exception that could travel. `trace`: what it said, or ""."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class InContainer(Exception):
    """The cause of an exception that a function raised: the traceback over there, as text."""

    def __init__(self, trace: str) -> None:
        super().__init__(trace)
        self.trace = trace

    def __str__(self) -> str:
        return f'\n"""\n{self.trace}"""'


def value(answer: bytes, home: str, trust: Iterable[str] = ()) -> Any:
    """The function's value. Raises what it raised, or FunctionFailed."""
    found = _read(answer, home, trust)
    if not isinstance(found, dict):
        raise FunctionFailed("the function's result cannot be read")
    if "value" in found:
        return found["value"]
    trace = str(found.get("text", ""))
    carried = found.get("error")
    if isinstance(carried, bytes):
        try:
            error = _read(carried, home, trust)
        except FunctionFailed:
            error = None
        if isinstance(error, Exception):
            raise error from InContainer(trace)
    last = trace.strip().rpartition("\n")[2]
    raise FunctionFailed(last or str(found.get("kind", "it failed")), trace)


def _read(data: bytes, home: str, trust: Iterable[str]) -> Any:
    reader = _Reader(io.BytesIO(data))
    reader.home, reader.trust = home, frozenset(trust)
    try:
        return reader.load()
    except pickle.UnpicklingError as error:
        raise FunctionFailed(str(error)) from error
    except Exception as error:
        raise FunctionFailed(
            f"the function's result cannot be read: {type(error).__name__}: {error}"
        ) from error


class _Reader(pickle.Unpickler):
    home: str
    trust: frozenset[str]

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in self.trust:
            return super().find_class(module, name)
        if module == "builtins":
            found = super().find_class(module, name)
            if name in _BUILTINS or (isinstance(found, type) and issubclass(found, BaseException)):
                return found
        elif name in _DATA.get(module, ()):
            return super().find_class(module, name)
        elif module == self.home:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == self.home:
                return found
        raise pickle.UnpicklingError(
            f"the function's result holds {module}.{name}: name its package in trust= to let that in"
        )
