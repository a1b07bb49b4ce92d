"""USER as an OCI user: numbers, or names looked up in the container's own passwd and group. Pure.

user := who [":" group]      who, group := name | number
"""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from skiff.errors import InvalidParameter
from skiff.oci.runtime import User

LARGEST_ID = 2**31 - 1


class Identity(Struct, frozen=True):
    """Who a process is, and where its home lies."""

    user: User
    home: str


class _Account(Struct, frozen=True):
    name: str
    uid: int
    gid: int
    home: str


class _Group(Struct, frozen=True):
    name: str
    gid: int
    members: tuple[str, ...]


def identity(text: str, read: Callable[[str], str], groups: Iterable[str] = ()) -> Identity:
    """read: the text of a file of the container, empty when there is none. groups: GroupAdd.

    InvalidParameter: `unable to find user x: no matching entries in passwd file`.
    """
    who, colon, group = text.partition(":")
    known = list(_groups(read("/etc/group")))
    account = _account(who or "0", list(_accounts(read("/etc/passwd"))))
    if colon and group:
        gid, extra = _group_id(group, known), set[int]()
    else:
        gid = account.gid
        extra = {g.gid for g in known if account.name and account.name in g.members}
    extra |= {_group_id(name, known) for name in groups}
    extra.discard(gid)
    # the primary group is listed as well, as initgroups(3) does
    user = User(uid=account.uid, gid=gid, additional_gids=(gid, *sorted(extra)))
    return Identity(user, account.home or "/")


def _account(who: str, accounts: list[_Account]) -> _Account:
    for account in accounts:
        if account.name == who:
            return account
    number = _number(who)
    if number is None:
        raise InvalidParameter(f"unable to find user {who}: no matching entries in passwd file")
    for account in accounts:
        if account.uid == number:
            return account
    return _Account("", number, 0, "/root" if number == 0 else "/")


def _group_id(text: str, known: list[_Group]) -> int:
    for group in known:
        if group.name == text:
            return group.gid
    number = _number(text)
    if number is None:
        raise InvalidParameter(f"unable to find group {text}: no matching entries in group file")
    return number


def _number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit():
        return None
    number = int(text[:12])
    if number > LARGEST_ID:
        raise InvalidParameter(f"uids and gids must be in range 0-{LARGEST_ID}")
    return number


def _accounts(text: str) -> Iterator[_Account]:
    """passwd(5): name:password:uid:gid:comment:home:shell. Malformed lines are passed over."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and fields[2].isdigit() and fields[3].isdigit():
            yield _Account(fields[0], int(fields[2]), int(fields[3]), fields[5])


def _groups(text: str) -> Iterator[_Group]:
    """group(5): name:password:gid:member,member."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdigit():
            yield _Group(fields[0], int(fields[2]), tuple(m for m in fields[3].split(",") if m))
