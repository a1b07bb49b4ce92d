"""Users and groups of a root filesystem: from the text of its passwd and group to numbers. Pure.

Reading the files — confined to that root — is the caller's. Malformed lines are passed over, as libc
does. passwd(5), group(5).
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from skiff.errors import InvalidParameter

HIGHEST_ID: Final = 2**31 - 1
DEFAULT_HOME: Final = "/"


class Entry(NamedTuple):
    """A line of passwd."""

    name: str
    uid: int
    gid: int
    home: str


class GroupEntry(NamedTuple):
    """A line of group."""

    name: str
    gid: int
    members: tuple[str, ...]


class Identity(NamedTuple):
    """groups: supplementary, no doubles, in the order of the file. name: "" without an entry."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str = ""


def _text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")


def _id(text: str) -> int | None:
    """A decimal number of at most ten digits, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def passwd_entries(content: str | bytes) -> Iterator[Entry]:
    """name:password:uid:gid:comment:home:shell, one a line."""
    for line in _text(content).split("\n"):
        fields = line.strip().split(":")
        if len(fields) < 4 or line.startswith("#"):
            continue
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is not None and gid is not None and fields[0]:
            yield Entry(fields[0], uid, gid, fields[5] if len(fields) > 5 else "")


def group_entries(content: str | bytes) -> Iterator[GroupEntry]:
    """name:password:gid:member,member, one a line."""
    for line in _text(content).split("\n"):
        fields = line.strip().split(":")
        if len(fields) < 3 or line.startswith("#"):
            continue
        gid = _id(fields[2])
        if gid is not None and fields[0]:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield GroupEntry(fields[0], gid, tuple(member for member in members if member))


def resolve(
    spec: str, passwd: str | bytes = "", group: str | bytes = "", additional: Sequence[str] = ()
) -> Identity:
    """Who `user`, `user:group`, `uid`, `uid:gid`, `:group` or "" (root) is in that root filesystem.

    A name wins over a number. A number needs no entry; without one its group is 0 and its home `/`. The
    supplementary groups are those the user is a member of, unless a group is given. additional: --group-add,
    names or numbers. InvalidParameter in Docker's words.
    """
    user, _, wanted_group = spec.partition(":")
    users, groups = list(passwd_entries(passwd)), list(group_entries(group))
    entry = _user(user, users)
    uid, gid, home, name = entry.uid, entry.gid, entry.home or DEFAULT_HOME, entry.name
    extra: list[int] = []
    if wanted_group:
        gid = _group(wanted_group, groups)
    elif name:
        extra = [g.gid for g in groups if name in g.members]
    extra += [_group(wanted, groups) for wanted in additional]
    return Identity(uid, gid, tuple(dict.fromkeys(extra)), home, name)


def _user(user: str, users: list[Entry]) -> Entry:
    number = _id(user) if user else 0
    found = next((e for e in users if user and e.name == user), None)
    if found is None and number is not None:
        found = next((e for e in users if e.uid == number), None)
    if found is None:
        if number is None:
            raise InvalidParameter(f"unable to find user {user}: no matching entries in passwd file")
        found = Entry("", number, 0, "")
    if found.uid > HIGHEST_ID or found.gid > HIGHEST_ID:
        raise InvalidParameter("uids and gids must be in range 0-2147483647")
    return found


def _group(wanted: str, groups: list[GroupEntry]) -> int:
    found = next((g.gid for g in groups if g.name == wanted), None)
    gid = _id(wanted) if found is None else found
    if gid is None:
        raise InvalidParameter(f"unable to find group {wanted}: no matching entries in group file")
    if gid > HIGHEST_ID:
        raise InvalidParameter("uids and gids must be in range 0-2147483647")
    return gid
