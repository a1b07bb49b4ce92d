"""The hosts and resolv.conf of a running container, when its networks change.

Both are written in place, since the container has these very files mounted, and only where they are as we
have written them: what the container changed in them is its own. It may have put any bytes there, too.
"""

import os
from collections.abc import Callable, Collection
from pathlib import PurePath
from typing import Final

LARGEST: Final = 1 << 20  # bytes; a longer file is none of ours


def follow_addresses(path: PurePath, names: str, addresses: Collection[str]) -> None:
    """The container's own lines in hosts: those of addresses that it lost go, new ones come last."""
    _mend(path, lambda text: with_addresses(text, names, addresses))


def with_addresses(text: str, names: str, addresses: Collection[str]) -> str:
    """Pure."""
    lines = text.splitlines()
    mine = [line.removesuffix(f"\t{names}") for line in lines if line.endswith(f"\t{names}")]
    lost = {f"{address}\t{names}" for address in mine if address not in addresses}
    kept = [line for line in lines if line not in lost]
    gained = [f"{address}\t{names}" for address in addresses if address not in mine]
    return "".join(f"{line}\n" for line in (*kept, *gained))


def follow_servers(path: PurePath, before: str, after: str) -> None:
    """resolv.conf, from one text of ours to the other."""
    _mend(path, lambda text: after if text == before else text)


def _mend(path: PurePath, mended: Callable[[str], str]) -> None:
    """In one write: who reads meanwhile sees the old text or the new one."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        data = os.pread(file, LARGEST + 1, 0)
        new = mended(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if len(data) <= LARGEST and new != data:
            os.pwrite(file, new, 0)
            os.ftruncate(file, len(new))
    finally:
        os.close(file)
