"""The same act on several things: names are echoed, failures go to stderr and make the exit code 1."""

from __future__ import annotations

from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skiff.cli.session import Session


def each(session: Session, names: Iterable[str], act: Callable[[str], object], *, echo: bool = True) -> int:
    """One after the other; what failed is told at once, and the rest is still done."""
    failed = False
    for name in names:
        try:
            act(name)
        except SkiffError as error:
            failed = True
            session.err(str(error))
        else:
            if echo:
                print(name)
    return 1 if failed else 0
