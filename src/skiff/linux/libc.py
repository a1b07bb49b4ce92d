"""The ctypes door: one libc, raw system calls, and errno turned into OSError.

No policy. `syscall` returns what the kernel said (-1 and errno on failure); `check` raises. Only this file
and passwords.py of linux/ load a library.
"""

import ctypes
import os
from collections.abc import Callable
from typing import Any, Final

libc: Final = ctypes.CDLL(None, use_errno=True)
# The same library with the interpreter's lock held during the call: a clone must not run among other threads.
locked_libc: Final = ctypes.PyDLL(None, use_errno=True)

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

_syscall: Callable[..., int] = libc.syscall
libc.syscall.restype = ctypes.c_long
locked_libc.syscall.restype = ctypes.c_long
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4

_long = ctypes.c_long


def syscall(number: int, *args: Any) -> int:
    """The raw result of a system call; integers are passed as long, bytes and ctypes values as they are."""
    return _syscall(_long(number), *[_long(a) if isinstance(a, int) else a for a in args])


def check(result: int, what: str, path: str | bytes | None = None) -> int:
    """The result, unless it is negative: then OSError with errno, `what: reason` and the path as filename."""
    if result < 0:
        number = ctypes.get_errno()
        text = f"{what}: {os.strerror(number)}"
        if path is None:
            raise OSError(number, text)
        raise OSError(number, text, os.fsdecode(path))
    return result


def prctl(option: int, *args: int) -> int:
    """The result of the option; raises OSError."""
    rest = (*args, 0, 0, 0, 0)[:4]
    return check(libc.prctl(option, *rest), f"prctl {option}")
