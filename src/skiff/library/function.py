"""skiff.function: a Python function that runs in a container and gives its value here.

    call ─► container created ◄─ runner.py, call.json ─► started ─► its output, as it comes ─► result, removed

What travels, and how, is in shipping.py (there) and results.py (back).
"""

import atexit
import codecs
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from msgspec import json

from skiff.client.connection import EngineError
from skiff.errors import NotFound, SkiffError
from skiff.library import results, runner, shipping
from skiff.library.container import Container, collected
from skiff.library.engine import Engine, default
from skiff.library.options import Options
from skiff.library.results import FunctionFailed

__all__ = ["Call", "Function", "FunctionFailed", "function"]

HOST = "host"
FOLDER = "/.skiff-function"
LABEL = "skiff.function"

P = ParamSpec("P")
R = TypeVar("R")


class Function(shipping.Unwrapped, Generic[P, R]):
    """A function that runs in a container when it is called. `wrapped`: itself, to run it here."""

    def __init__(
        self,
        wrapped: Callable[P, R],
        *,
        image: str = HOST,
        timeout: float | None = None,
        python: str = "",
        trust: Iterable[str] = (),
        engine: Engine | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.wrapped = wrapped
        self._image = image
        self._timeout = timeout
        self._python = python or (sys.executable if image == HOST else "python3")
        self._trust = tuple(trust)
        self._engine = engine
        self._options = options
        functools.update_wrapper(self, wrapped)

    def __repr__(self) -> str:
        return f"<Function {self.wrapped.__qualname__} in {self._image}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Its value. Raises what it raises, TimeoutError, FunctionFailed, EngineError.

        Interrupted (Ctrl-C), it takes the container along.
        """
        call: Call[R] = Call()
        return self._run(call, shipping.packed(self.wrapped, args, kwargs))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> "Call[R]":
        """Start it and go on: a Future, for concurrent.futures.wait and as_completed, too."""
        call: Call[R] = Call()
        packed = shipping.packed(self.wrapped, args, kwargs)
        call.set_running_or_notify_cancel()
        _submitted.add(call)
        threading.Thread(target=self._follow, args=(call, packed), name="skiff-call", daemon=True).start()
        return call

    def map(self, values: Iterable[Any], *, at_once: int = 4) -> Iterator[R]:
        """The function's value for each of these, in order; at most `at_once` containers at a time."""
        waiting: list[Call[R]] = []
        try:
            for value in values:
                if len(waiting) >= at_once:
                    yield waiting.pop(0).result()
                waiting.append(self.submit(value))  # type: ignore[call-arg]
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for call in waiting:
                call.cancel()

    def _follow(self, call: "Call[R]", packed: dict[str, Any]) -> None:
        try:
            value = self._run(call, packed)
        except BaseException as error:
            call.set_exception(error)
        else:
            call.set_result(value)

    def _run(self, call: "Call[R]", packed: dict[str, Any]) -> R:
        engine = self._engine or default()
        is_ours = self._image == HOST and self._python == sys.executable
        packed["path"] = shipping.search_path() if is_ours else []
        command = [self._python, "-u", f"{FOLDER}/runner.py"]
        options: Options = {"entrypoint": command[:1], **self._options}
        options["env"] = {"SKIFF_AUTOSTART": "0", **(options.get("env") or {})}
        options["labels"] = {LABEL: packed["entry"], **(options.get("labels") or {})}
        with engine.create(self._image, command[1:], **options) as container:
            container.put("/", _sent(packed), mode=0o644, folder_mode=0o777)
            code = self._finish(engine, container, call)
            try:
                answer = container.read(f"{FOLDER}/result")
            except (EngineError, NotFound):
                raise FunctionFailed(_why(container, code, self._python)) from None
        value: R = results.value(answer, packed["home"], self._trust)
        return value

    def _finish(self, engine: Engine, container: Container, call: "Call[R]") -> int:
        """Start it, show what it writes, wait for its end. Raises TimeoutError, CancelledError."""
        stream = engine.client().attach_container(container.id, stdout=True, stderr=True)
        late = threading.Event()

        def too_late() -> None:
            late.set()
            _end(container)

        timer = threading.Timer(self._timeout or 0, too_late)
        timer.daemon = True
        try:
            container.start()
            if self._timeout is not None:
                timer.start()
            call.began(container)
            collected(stream, None, tty=False, tell=_Shown())
            code = container.wait()
        finally:
            timer.cancel()
            stream.close()
        if late.is_set():
            raise TimeoutError(f"{self.wrapped.__qualname__} did not end within {self._timeout} s")
        if call.given_up:
            raise CancelledError
        return code


class Call(Future[R]):
    """A function on its way. Its container is removed when it has ended, or is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = False
        self._container: Container | None = None
        self._change = threading.Lock()

    def began(self, container: Container) -> None:
        with self._change:
            self._container = container
            given_up = self.given_up
        if given_up:
            _end(container)

    def abandon(self) -> None:
        """Take its container away: nobody will ask any more."""
        self.given_up = True
        if self._container is not None and not self.done():
            self._container.remove(force=True, missing_ok=True)

    def cancel(self) -> bool:
        """Kill it, even while it runs; result() then raises CancelledError. False when it has ended."""
        with self._change:
            if self.done():
                return False
            self.given_up = True
            container = self._container
        if container is not None:
            _end(container)
        return True


_submitted: "weakref.WeakSet[Call[Any]]" = weakref.WeakSet()


@atexit.register
def _abandon_all() -> None:
    """A program that ends leaves no container at work for it."""
    for call in list(_submitted):
        try:
            call.abandon()
        except SkiffError:
            continue  # the engine has gone; others may have another one


@overload
def function(wrapped: Callable[P, R], /) -> Function[P, R]: ...


@overload
def function(
    *,
    image: str = HOST,
    timeout: float | None = None,
    python: str = "",
    trust: Iterable[str] = (),
    engine: Engine | None = None,
    **options: Unpack[Options],
) -> Callable[[Callable[P, R]], Function[P, R]]: ...


def function(wrapped: Callable[..., Any] | None = None, /, **how: Any) -> Any:
    """Make a function run in a container of its own each time it is called.

    >>> @skiff.function(memory="256m", network="none", timeout=30)
    ... def primes(limit: int) -> list[int]:
    ...     return [n for n in range(2, limit) if all(n % d for d in range(2, n))]
    >>> primes(20)
    [2, 3, 5, 7, 11, 13, 17, 19]

    image:   with a Python in it. `host`, the default, is this machine's own root: this very interpreter and
             all its packages are there, nothing is downloaded, and what the function writes is thrown away.
    timeout: seconds; then the container is killed and TimeoutError raised.
    python:  the interpreter in the container; of `host` the one that runs this, elsewhere `python3`.
    trust:   packages whose objects may come back, beside plain data and classes of the function's own module.
    engine:  see connect(). The rest are options of `run`: memory, cpus, volumes, env, network, user, …

    Arguments and value are pickled; the function travels as source, with what it uses of its own module. What
    it prints appears here; what it raises is raised here, the traceback from over there as its cause.
    """
    if wrapped is not None:
        return Function(wrapped)
    return lambda chosen: Function(chosen, **how)


def _sent(packed: dict[str, Any]) -> dict[str, bytes | str | None]:
    name = FOLDER.removeprefix("/")
    return {
        name: None,
        f"{name}/runner.py": Path(runner.__file__).read_bytes(),
        f"{name}/call.json": json.encode(packed),
    }


def _end(container: Container) -> None:
    try:
        container.kill()
    except EngineError:
        pass  # it has ended meanwhile


def _why(container: Container, code: int, python: str) -> str:
    """A function that left no result."""
    state = container.inspect()["State"]
    if state.get("OOMKilled"):
        return "the function was killed: it wanted more memory than its container has (memory=…)"
    if code in (126, 127) and state.get("Error"):
        return f"the image cannot run {python}: {state['Error']}"
    if code > 128:
        return f"the function was killed by signal {code - 128} before it had a result"
    return f"the function ended its process with exit code {code} before it had a result"


class _Shown:
    """Passes what a container writes on to this program's stdout and stderr, characters kept whole."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {1: decoder("replace"), 2: decoder("replace")}

    def __call__(self, number: int, data: bytes) -> None:
        out = sys.stderr if number == 2 else sys.stdout
        out.write(self._decoders[number].decode(data))
        out.flush()
