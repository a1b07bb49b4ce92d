"""An engine that is killed, as by SIGKILL, just before a write of its records that a test has chosen.

`python -m tests.integration.mortal` takes the engine's flags. The file named by SKIFF_TEST_DIES holds how
many writes are still made; without it the engine lives.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

from skiff.engine.__main__ import main
from skiff.engine.storage.state import SqliteTable

DIES = "SKIFF_TEST_DIES"


def _counted(write: Callable[..., None]) -> Callable[..., None]:
    def counted(*arguments: Any) -> None:
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
        write(*arguments)

    return counted


if __name__ == "__main__":
    for name in ("put", "delete"):
        setattr(SqliteTable, name, _counted(getattr(SqliteTable, name)))
    main()
