"""The table of cases: `cases/*.txt`, one story a file, one case a line, run in that order. Pure.

$ ps -a --format '{{.Names}}'          a command line: words after `docker` or `skiff`
$ import - x <<< text                  … with text and a newline as its stdin
GET /containers/json?all=1             a request of the Engine API
POST /volumes/create {"Name": "v"}     … with a JSON body
HEAD* /info                            any of them with `*`: the shape of the answer alone
! because …                            the case above is answered otherwise by skiff, and why
# a remark
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent / "cases"
GOLDEN: Final = Path(__file__).parent / "golden"


class Case(NamedTuple):
    """method: `$` for a command line, else HTTP's. difference: why skiff answers otherwise, or nothing."""

    line: str
    method: str
    target: str
    body: str
    shape: bool
    difference: str


def stories() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read(story: str) -> list[Case]:
    return list(parse((FOLDER / f"{story}.txt").read_text()))


def parse(text: str) -> Iterator[Case]:
    """ValueError names a line that is none."""
    pending: Case | None = None
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("! "):
            if pending is None:
                raise ValueError(f"a reason without a case: {line}")
            pending = pending._replace(difference=line[2:])
            continue
        if pending is not None:
            yield pending
        pending = _case(line)
    if pending is not None:
        yield pending


def _case(line: str) -> Case:
    method, blank, rest = line.partition(" ")
    shape = method.endswith("*")
    method = method.removesuffix("*")
    if not blank or method not in ("$", "GET", "HEAD", "POST", "PUT", "DELETE"):
        raise ValueError(f"no case: {line}")
    separator = " <<< " if method == "$" else " "
    target, _, body = rest.partition(separator)
    return Case(line, method, target, body, shape, "")
