"""Network namespaces of the tests' own: for a coroutine, or for programs."""

import asyncio
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Coroutine

from skiff.linux.links import up
from skiff.linux.namespaces import CLONE_NEWNET, CLONE_NEWNS, unshare
from skiff.linux.netlink import NetlinkSocket

PATIENCE = int(os.environ.get("SKIFF_TEST_PATIENCE", "1"))  # for machines that are only emulated
OUTSIDE = "192.0.2.1"  # an address of the namespace's own, as a host's
HOLD = "ip link set lo up && ip addr add $0/32 dev lo && echo ready && cat"


class Network:
    """A namespace with `lo` up, held by a process that ends when this one does.

    enter: the words before a command that runs inside.
    """

    def __init__(self) -> None:
        command = ["unshare", "--net", "sh", "-c", HOLD, OUTSIDE]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self.path = f"/proc/{self._holder.pid}/ns/net"
        self.enter = ("nsenter", f"--net={self.path}", "--")

    def close(self) -> None:
        self._holder.communicate()


def in_own_network(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """The scenario's traceback is the test's failure."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            unshare(CLONE_NEWNET | CLONE_NEWNS)
            with NetlinkSocket() as netlink:
                netlink.request(up(1))
            subprocess.run(["ip", "addr", "add", f"{OUTSIDE}/32", "dev", "lo"], check=True)
            asyncio.run(asyncio.wait_for(scenario(), 60 * PATIENCE))
        except BaseException:
            os.write(write, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        failure = said.read()
    os.waitpid(child, 0)
    assert not failure, failure


def python_in(
    namespace: str, program: str, *arguments: str, stdin: int | None = None
) -> "subprocess.Popen[str]":
    """A Python program in a network namespace given by path."""
    command = ["nsenter", f"--net={namespace}", sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def output_in(namespace: str, program: str, *arguments: str) -> str:
    """What the program printed; its failure is ours."""
    process = python_in(namespace, program, *arguments)
    out, err = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, err
    return out.strip()
