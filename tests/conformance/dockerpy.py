"""docker-py's own integration suite against skiff: `make dockerpy CHECKOUT=DIRECTORY`.

CHECKOUT is a work tree of github.com/docker/docker-py: the package on PyPI is without its tests. Further
words go to pytest. What is not asked, and why, is in data/dockerpy_not_asked.txt; all else has to pass. What
failed is asked once more: some tests read a container's log without waiting for its end.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.conformance import hub

SUITE = "tests/integration"
NOT_ASKED = Path(__file__).parent / "data" / "dockerpy_not_asked.txt"
PYTEST = ("-m", "pytest", "-q", "-rfE", "-p", "no:asyncio", "--timeout=90", "--timeout-method=signal")
FAILED = 1  # pytest's exit code for tests that failed


def not_asked() -> list[str]:
    """As words for pytest."""
    lines = [line.partition(" # ")[0].strip() for line in NOT_ASKED.read_text().splitlines()]
    tests = [f"{SUITE}/{line}" for line in lines if line]
    return [word for test in tests for word in (("--deselect" if "::" in test else "--ignore"), test)]


def main(checkout: str, *words: str) -> int:
    if not Path(checkout, SUITE, "api_exec_test.py").is_file():
        sys.exit(f"CHECKOUT: expected a work tree of github.com/docker/docker-py, not {checkout!r}")
    chosen = any(word.startswith("tests/") for word in words)
    with hub.running() as engine:
        cache = f"{engine.root}/pytest"
        configuration = Path(
            engine.root, ".docker", "config.json"
        )  # without it contexts are kept in the checkout
        configuration.parent.mkdir()
        configuration.write_text("{}")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": engine.root,
            "DOCKER_HOST": hub.ENGINE,
            "PYTHONPATH": checkout,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for again in ([], ["--last-failed"]):
            ask = [sys.executable, *PYTEST, "-o", f"cache_dir={cache}", *again, *not_asked()]
            ask += [*(() if chosen else (SUITE,)), *words]
            code = subprocess.run([*engine.network.enter, *ask], cwd=checkout, env=environment).returncode
            if code != FAILED:
                break
        return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
