"""USER as an OCI user: numbers, or names looked up in the container's own passwd and group. Pure.

user := who [":" group]      who, group := name | number
"""

from collections.abc import Callable, Iterable

from msgspec import Struct

from skiff.linux.users import resolve
from skiff.oci.runtime import User


class Identity(Struct, frozen=True):
    """Who a process is, and where its home lies."""

    user: User
    home: str


def identity(text: str, read: Callable[[str], str], groups: Iterable[str] = ()) -> Identity:
    """read: the text of a file of the container, empty when there is none. groups: GroupAdd.

    InvalidParameter: `unable to find user x: no matching entries in passwd file`.
    """
    found = resolve(text, read("/etc/passwd"), read("/etc/group"), tuple(groups))
    others = sorted({*found.groups} - {found.gid})
    # the primary group is listed as well, as initgroups(3) does
    user = User(uid=found.uid, gid=found.gid, additional_gids=(found.gid, *others))
    return Identity(user, found.home if found.name or found.uid else "/root")
