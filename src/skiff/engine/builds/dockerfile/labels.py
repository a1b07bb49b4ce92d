"""The short names of steps on a progress display: `[build 2/4] RUN make`. Pure.

Only steps that make a file system are counted, as BuildKit counts; a stage alone in its file has no name.
"""

from collections.abc import Sequence

from skiff.engine.builds.dockerfile import instructions as of
from skiff.engine.builds.dockerfile.stages import SourceStage


class Labels:
    """Numbers one stage's steps. begins_outside: its FROM counts, since it brings an image."""

    def __init__(
        self, stage: SourceStage, body: Sequence[of.Instruction], *, alone: bool, begins_outside: bool
    ) -> None:
        self.prefix = "" if alone else f"{stage.shown} "
        self.count = 0
        self.begins_outside = begins_outside
        self.total = int(begins_outside) + sum(
            isinstance(found, (of.Run, of.Copy, of.Workdir)) for found in body
        )

    def first(self, image: str) -> str:
        if not self.begins_outside:
            return f"[{self.prefix.strip()}] FROM {image}" if self.prefix else f"FROM {image}"
        self.count += 1
        return f"[{self._place()}] FROM {image}"

    def next(self, found: of.Instruction, text: str, *, changes_files: bool, is_own: bool) -> str:
        if isinstance(found, (of.Run, of.Copy, of.Workdir)):
            self.count += 1
        text = text if is_own else f"ONBUILD {text}"
        if isinstance(found, of.Run) and found.command.heredocs:
            text += _excerpt(found.command)
        return f"[{self._place()}] {text}" if changes_files else text

    def _place(self) -> str:
        width = len(str(self.total))
        return f"{self.prefix}{self.count:{width}}/{self.total}"


def _excerpt(command: of.Command) -> str:
    """The first line of a script, in brackets."""
    document = command.heredocs[0]
    if len(command.heredocs) > 1 or command.arguments[0] != document.mark:
        return ""
    first, _, rest = document.text.partition("\n")
    return f" ({first}{'...' if rest.strip() else ''})"
