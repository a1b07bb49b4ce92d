"""Id-mapped binds: what the container's user makes belongs to whoever owns the source. Pure.

All other ids stay what they are, but two: the container's user's own id on the disk, and the owner's id in
the container, have no counterpart. So root in a container makes no file of the host's root.
mount_setattr(2) § ID mapped mounts.
"""

from msgspec import Struct

from skiff.oci.runtime import IdMapping

ALL_IDS = (1 << 32) - 1  # how many there are; the last number means none


class IdMaps(Struct, frozen=True):
    """On the disk → in the container. Empty: nothing is shifted."""

    uids: tuple[IdMapping, ...] = ()
    gids: tuple[IdMapping, ...] = ()


def idmaps(owner: tuple[int, int], user: tuple[int, int]) -> IdMaps:
    """owner: user and group of the source on the disk; user: those of the container's user."""
    if owner == user:
        return IdMaps()
    return IdMaps(uids=_met(owner[0], user[0]), gids=_met(owner[1], user[1]))


def _met(owner: int, user: int) -> tuple[IdMapping, ...]:
    """Owner is shown as user, everyone else as themselves."""
    first, second = sorted((owner, user))
    ranges = [(0, first), (first + 1, second), (second + 1, ALL_IDS)]
    others = [IdMapping(start, start, end - start) for start, end in ranges if end > start]
    return (IdMapping(owner, user, 1), *others)
