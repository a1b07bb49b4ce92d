"""A kernel without overlayfs and without user namespaces: what is said of it, and what goes on without them.

`make vm` boots one (WITHOUT=overlay); on any other machine there is nothing to see.
"""

import errno
import os
from pathlib import Path

import pytest

from skiff.cli.check import attempt
from skiff.engine.storage.plain import overlay_is_here
from skiff.linux.libc import libc
from tests.integration.engines import Engine

USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
NEWUSER = 0x10000000

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or overlay_is_here(), reason="this kernel has overlayfs"),
]


@pytest.fixture(autouse=True)
def _without_user_namespaces() -> None:
    """The machine is a test's own and forgotten: nothing is put back."""
    USER_NAMESPACES.write_text("0")
    assert attempt(lambda: int(libc.unshare(NEWUSER))) == errno.ENOSPC


def test_what_is_missing_what_it_costs_and_how_to_get_it(engine: Engine) -> None:
    done = engine.skiff("check")
    print(done.out)
    assert done.code == 0
    assert "Traceback" not in done.out + done.err
    lines = [line.split(maxsplit=2) for line in done.out.splitlines()]
    at = lines.index(["overlay", "absent", "No such device"])
    assert [" ".join(words) for words in lines[at + 1 : at + 3]] == [
        "cost: every container copies its image: slow, and much disk",
        "help: modprobe overlay (CONFIG_OVERLAY_FS)",
    ]
    assert ["user", "namespace", "absent   No space left on device"] in lines
    assert "help: sysctl user.max_user_namespaces=15000" in done.out
    assert done.out.endswith("\nContainers can run here.\n")


def test_containers_run_on_copies(engine: Engine) -> None:
    assert "every container copies its image" in engine.log()
    assert engine.skiff("info", "-f", "{{.Driver}}").ok() == "vfs"
    done = engine.skiff("run", "--name", "box", "busybox", "sh", "-c", "echo hi; echo x >/new; ls /bin/sh")
    assert done.ok() == "hi\n/bin/sh"
    assert list(Path(engine.root, "data/snapshots").glob("*/fs/new"))
    assert engine.skiff("diff", "box").ok() == "A /new"


def test_the_image_host_says_what_it_needs(engine: Engine) -> None:
    done = engine.skiff("run", "--rm", "host", "true")
    assert (done.code, "Traceback" in done.err) == (125, False)
    assert "the image host needs overlayfs" in done.err
    assert "modprobe overlay" in done.err
