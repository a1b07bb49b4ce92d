"""What is forked from frozen memory gives back the copies of what it has not changed, and loses nothing."""

import os
import subprocess
import sys

import pytest

from skiff.linux import spawn
from skiff.linux.frozen import freeze

pytestmark = pytest.mark.skipif(spawn.available() is None, reason="nothing can be spawned here")

PAGE = 4096
PAGES = 256


def copied_pages() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) * 1024 // PAGE


def in_a_child() -> None:
    """Run in a process of its own: it freezes itself."""
    spawner = spawn.available()
    assert spawner is not None
    data = bytearray(b"x" * PAGE * PAGES)
    frozen = freeze(spawner)
    assert frozen is not None
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        assert data == b"x" * PAGE * PAGES
        print("kept", end="")
        return
    data[:] = b"y" * PAGE * PAGES
    half = PAGE * PAGES // 2
    data[:half] = b"x" * half
    before = copied_pages()
    assert frozen.give_back() > PAGES // 2 - 2
    assert copied_pages() < before - PAGES // 4
    assert data == b"x" * half + b"y" * half
    data[:half] = b"z" * half
    mine = [bytes([number % 256]) * number for number in range(3000)]
    frozen.give_back()
    assert data == b"z" * half + b"y" * half
    assert all(text == bytes([number % 256]) * number for number, text in enumerate(mine))
    os._exit(0)


def test_what_is_as_it_was_is_given_back_and_the_rest_is_kept() -> None:
    program = f"from {__name__} import in_a_child; in_a_child()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("kept", "", 0)


def test_the_interpreter_goes_on_as_before_when_it_is_frozen() -> None:
    program = (
        "import gc, json, os; from skiff.linux import frozen, spawn;"
        "kept = {str(n): [n] * n for n in range(500)}; f = frozen.freeze(spawn.available());"
        "more = [os.urandom(n) for n in range(2000)]; gc.collect(); f.give_back(); gc.collect();"
        "assert json.loads(json.dumps(kept)) == {str(n): [n] * n for n in range(500)}; print('well', end='')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("well", "", 0)
