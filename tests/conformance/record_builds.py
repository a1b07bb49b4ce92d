"""What Docker makes of the corpus, as golden data: `python -m tests.conformance.record_builds [name…]`.

Asks the Docker at DOCKER_HOST. BUILDX: the command line that has `build`, by default `docker buildx`.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conformance import built
from tests.integration import busybox

TAG = "skiff-build-corpus"


def record(case: built.Case, base: str) -> built.Result:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        case.write(root)
        command = shlex.split(os.environ.get("BUILDX", "docker buildx"))
        done = subprocess.run(
            [
                *command,
                "build",
                "--no-cache",
                "--progress=plain",
                "--provenance=false",
                "-t",
                TAG,
                *case.words(root),
            ],
            capture_output=True,
            text=True,
        )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1].replace(directory, "")}
    saved = subprocess.run(["docker", "save", TAG], capture_output=True)
    subprocess.run(["docker", "rmi", TAG], check=True, capture_output=True)
    if saved.returncode:
        return {"error": f"save: {saved.stderr.decode().strip()}"}
    return built.result(saved.stdout, base)


def main(names: list[str]) -> None:
    subprocess.run(["docker", "load"], input=busybox.archive(), check=True, capture_output=True)
    base = busybox.diff_id()
    page = built.HOME / "docker.json"
    known = json.loads(page.read_text()) if page.exists() else {}
    found = {}
    for case in built.cases():
        if (case.name in names) if names else True:
            found[case.name] = record(case, base)
            print(case.name, found[case.name].get("error", ""), flush=True)
        elif case.name in known:
            found[case.name] = known[case.name]
    page.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
