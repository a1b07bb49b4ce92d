"""An engine that is killed, as by SIGKILL, just before a step that a test has chosen: a write of its records,
a file that it copies, a copy that takes its place, or a request to the kernel's network.

`python -m tests.integration.mortal` takes the engine's flags. The file named by SKIFF_TEST_DIES holds how
many steps are still made; without it the engine lives.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

from skiff.engine.__main__ import main
from skiff.engine.networks.sandbox import Namespace
from skiff.engine.storage import copying
from skiff.engine.storage.state import SqliteTable
from skiff.engine.volumes.local import LocalDriver
from skiff.linux.netlink import NetlinkSocket

DIES = "SKIFF_TEST_DIES"
STEPS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (SqliteTable, ("put", "delete")),
    (copying._Copy, ("_file",)),
    (LocalDriver, ("appear",)),
    (NetlinkSocket, ("request", "transaction")),
    (Namespace, ("set_sysctl",)),
)


def _counted(step: Callable[..., None]) -> Callable[..., None]:
    def counted(*arguments: Any, **named: Any) -> None:
        path = os.environ[DIES]
        if os.path.exists(path):
            with open(path, "r+", encoding="ascii") as file:
                left = int(file.read())
                if not left:
                    os.unlink(path)
                    os.kill(os.getpid(), signal.SIGKILL)
                file.seek(0)
                file.write(f"{left - 1}\n")
                file.truncate()
        step(*arguments, **named)

    return counted


if __name__ == "__main__":
    for owner, names in STEPS:
        for name in names:
            setattr(owner, name, _counted(getattr(owner, name)))
    main()
