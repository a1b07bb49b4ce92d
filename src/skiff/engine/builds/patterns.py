"""Source patterns of COPY and ADD, taken apart: docker/glob.py matches one part of a path. Pure."""

_SPECIAL = frozenset("*?[\\")


def is_pattern(text: str) -> bool:
    """Whether it could match anything but itself."""
    return any(character in _SPECIAL for character in text)


def parts(text: str) -> list[str]:
    """The parts of a path below the root: dots gone, `..` going no further up than that."""
    found: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del found[-1:]
        elif part not in ("", "."):
            found.append(part)
    return found
