"""Drafts kept for containers like them. Pure.

Of one image and one configuration two containers differ in their id and in the number of their snapshot,
which both keep their length: so the program of the one is that of the other with other names in its texts. To
plan it anew takes longer than all else before a container's first system call.
"""

import re
from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

from skiff.linux.calls import Image

KEPT = 64
_ID = 64  # hexadecimal digits; the first twelve are the default host name
_SHORT = 12
_NUMBER = re.compile(rb"/([0-9]+)(?=/)")  # a part of a path, such as a snapshot's
_MASK = b"\0"

Plan = TypeVar("Plan")


class Names(NamedTuple):
    """What may differ: a container's id, and all numbers in the paths of its wish, in their order."""

    id: bytes
    numbers: tuple[bytes, ...]


class Sketch(NamedTuple, Generic[Plan]):
    """A draft as it was made for those names. plan: what else there is to know of it."""

    names: Names
    image: Image
    plan: Plan


class Likenesses(Generic[Plan]):
    """Sketches by what does not differ, the latest used."""

    def __init__(self) -> None:
        self._sketches: OrderedDict[tuple[bytes, bytes], Sketch[Plan]] = OrderedDict()

    def find(self, packet: bytes, config: bytes, id: str) -> tuple[Image, Plan] | None:
        """The program for a wish, and the plan of the one it is like. packet: the wish as it came. config:
        the bundle's.
        """
        names = _names(packet, id)
        if names is None:
            return None
        key = _key(packet, config, names)
        sketch = self._sketches.get(key)
        if sketch is None:
            return None
        renamings = _renamings(sketch.names, names, config)
        if renamings is None:
            return None
        self._sketches.move_to_end(key)
        image = sketch.image
        texts = image.data[: image.start]
        for old, new in renamings:
            if (
                texts.find(old.removesuffix(b"/") + b"\0") >= 0
                or texts.find(b"\0%b\0" % old.strip(b"/")) >= 0
            ):
                return None  # a number stands at an end: perhaps that of a path, perhaps anything
            texts = texts.replace(old, new)
        texts = texts.replace(sketch.names.id, names.id)
        texts = texts.replace(sketch.names.id[:_SHORT], names.id[:_SHORT])
        return image._replace(data=texts + image.data[image.start :]), sketch.plan

    def keep(self, packet: bytes, config: bytes, id: str, image: Image, plan: Plan) -> None:
        """A draft that was made from scratch."""
        names = _names(packet, id)
        if names is None:
            return
        self._sketches[_key(packet, config, names)] = Sketch(names, image, plan)
        if len(self._sketches) > KEPT:
            self._sketches.popitem(last=False)


def _names(packet: bytes, id: str) -> Names | None:
    text = id.encode()
    if len(text) != _ID or text.strip(b"0123456789abcdef"):
        return None
    return Names(text, tuple(_NUMBER.findall(packet)))


def _key(packet: bytes, config: bytes, names: Names) -> tuple[bytes, bytes]:
    masked = _NUMBER.sub(lambda found: b"/" + _MASK * len(found[1]), packet)
    return _without_id(masked, names), _without_id(config, names)


def _without_id(text: bytes, names: Names) -> bytes:
    return text.replace(names.id, _MASK * _ID).replace(names.id[:_SHORT], _MASK * _SHORT)


def _renamings(old: Names, new: Names, config: bytes) -> list[tuple[bytes, bytes]] | None:
    """Which numbers to replace by which in paths, one after the other; None where that could hit something
    else.
    """
    changed = {a: b for a, b in zip(old.numbers, new.numbers, strict=True) if a != b}
    if any(changed.get(a, a) != b for a, b in zip(old.numbers, new.numbers, strict=True)):
        return None
    if changed.keys() & set(changed.values()) or len(set(changed.values())) < len(changed):
        return None
    numbers = [(b"/%b/" % a, b"/%b/" % b) for a, b in changed.items()]
    if any(before in config or after in config for before, after in numbers):
        return None  # the configuration has such a path, too
    return numbers
