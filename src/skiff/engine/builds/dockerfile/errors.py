"""What is wrong with a Dockerfile, and where. Pure.

The message is Docker's; its detail shows the place, so that a person need not look it up:

    dockerfile parse error on line 3: unknown instruction: RNU (did you mean RUN?)
    Dockerfile:3:1
       3 | >>> RNU b
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from skiff.errors import InvalidParameter

FaultKind = Literal["syntax", "grammar", "step"]


class DockerfileError(InvalidParameter):
    """line and column count from 1; 0: the file as a whole.

    headings: `Step 2/4 : ENV A=${`, of an error that Docker's builder meets when it comes to that step, and
    what it would have told without doing anything; none: it meets the error before it begins.
    """

    def __init__(
        self,
        message: str,
        *,
        line: int = 0,
        column: int = 1,
        detail: str = "",
        headings: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.detail = detail
        self.headings = headings


class Fault(Exception):
    """Something wrong in one instruction, raised where its place is not known.

    kind: what Docker was doing when it met it: `syntax`, cutting the file into lines: the message begins with
    `failed to parse Dockerfile: `; `grammar`, reading a line: with `dockerfile parse error on line N: `;
    `step`, doing what it says. near: text whose place is the column.
    """

    def __init__(self, message: str, *, kind: FaultKind = "step", near: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.near = near


def located(
    fault: Fault,
    source: Sequence[str],
    first: int,
    last: int,
    filename: str = "Dockerfile",
    headings: Sequence[str] = (),
) -> DockerfileError:
    """The fault as the error of the lines first…last of source. headings: see DockerfileError."""
    line, column = first, _indent(source, first)
    if fault.near:
        for number in range(first, min(last, len(source)) + 1):
            at = source[number - 1].find(fault.near)
            if at >= 0:
                line, column = number, at + 1
                break
    rows = [f"\n{number:4} | >>> {source[number - 1]}" for number in range(first, min(last, len(source)) + 1)]
    heads = {"syntax": "failed to parse Dockerfile: ", "grammar": f"dockerfile parse error on line {first}: "}
    return DockerfileError(
        heads.get(fault.kind, "") + fault.message,
        line=line,
        column=column,
        detail=f"\n{filename}:{line}:{column}" + "".join(rows),
        headings=headings if fault.kind == "step" else (),
    )


def _indent(source: Sequence[str], line: int) -> int:
    text = source[line - 1] if 0 < line <= len(source) else ""
    return len(text) - len(text.lstrip()) + 1


def suggestion(word: str, known: Iterable[str], *, furthest: int = 2) -> str:
    """` (did you mean RUN?)` when one known word is at most so many letters away, else nothing."""
    best, distance = "", furthest + 1
    for candidate in known:
        found = _distance(word.lower(), candidate.lower())
        if found < distance and found < max(len(candidate), 2):
            best, distance = candidate, found
    return f" (did you mean {best}?)" if best else ""


def _distance(a: str, b: str) -> int:
    """Letters to insert, delete, replace or swap with the next; cut off for words of unlike lengths."""
    if abs(len(a) - len(b)) > 3 or len(a) > 64:
        return 99
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        following = [i]
        for j, right in enumerate(b, 1):
            cost = min(row[j] + 1, following[j - 1] + 1, row[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            following.append(cost)
        before, row = row, following
    return row[-1]
