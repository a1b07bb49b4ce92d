"""What a failed `run`, `create`, `start` or `exec` says, and the exit code it ends with."""

from __future__ import annotations

import sys

REFUSED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127


def refused(path: str, message: str, *, code: int = REFUSED) -> int:
    """The sentence and where to read more, as Docker prints it for the run family."""
    sys.stdout.flush()
    print(f"skiff: {message}\n\nRun 'skiff {path} --help' for more information", file=sys.stderr)
    return code


def start_code(message: str) -> int:
    """126 or 127 when the command could not be run, told by the engine's words; 125 otherwise."""
    lower = message.lower()
    if "executable file not found" in lower or "no such file or directory" in lower:
        return NOT_FOUND
    if "permission denied" in lower or "is a directory" in lower:
        return NOT_EXECUTABLE
    return REFUSED
