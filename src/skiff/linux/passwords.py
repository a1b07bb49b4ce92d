"""Hashed passwords, checked by the C library's crypt_r(3): bcrypt above all, `$2y$…`."""

import ctypes
import hmac
from typing import Any

_NAMES = ("libcrypt.so.1", "libcrypt.so.2", "libc.so")
_ROOM = 1 << 18  # bytes; struct crypt_data has 32 KiB in one library, 128 KiB in another
_found: list[Any] = []


def matches(password: bytes, hashed: bytes) -> bool:
    """Whether the password has that hash. OSError when the C library knows no such kind of hash.

    Slow on purpose: call it in a thread.
    """
    if b"\0" in password or b"\0" in hashed:
        return False
    made = _crypt()(password, hashed, ctypes.create_string_buffer(_ROOM))
    if made is None or made.startswith(b"*"):
        raise OSError("crypt: unknown kind of hash")
    return hmac.compare_digest(made, hashed)


def _crypt() -> Any:
    if not _found:
        _found.append(_load())
    return _found[0]


def _load() -> Any:
    for name in _NAMES:
        try:
            crypt = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        crypt.restype = ctypes.c_char_p
        crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]
        return crypt
    raise OSError("crypt: the C library has none")
