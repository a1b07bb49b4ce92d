"""Session keyrings of the calling process. keyctl(2), session-keyring(7)."""

from typing import Final

from skiff.linux import syscalls
from skiff.linux.libc import check, syscall

JOIN_SESSION_KEYRING: Final = 1
# Looked up now: after the pivot the table of numbers is out of reach.
_KEYCTL: Final = syscalls.number("keyctl") if syscalls.architecture() in syscalls.ARCHITECTURES else -1


def new_session() -> int:
    """Leave the session keyring for a new, empty one of this process and its children: its serial number.

    OSError: ENOSYS without keyrings, EDQUOT when this user has too many.
    """
    return check(syscall(_KEYCTL, JOIN_SESSION_KEYRING, 0), "new session keyring")
