"""What a tab takes in bash, zsh and fish: from the key to the candidates. Milliseconds: least, median.

python bench/completion.py [repetitions]

The shell itself times its completion function, so that its own work counts. An engine that answers at once
has 100 containers.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from tests.fakes.fake_engine import FakeEngine, Reply  # noqa: E402

LINES = {
    "a command": "skiff sto",
    "a flag": "skiff run --net",
    "a flag's value": "skiff run --network b",
    "a container": "skiff rm web-9",
}
SHELLS = {
    "bash": """
source <(skiff completion bash)
COMP_WORDS=($LINE) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$LINE COMP_POINT=${#LINE}
compopt() { :; }
for ((i = 0; i < TIMES; i++)); do
    began=$EPOCHREALTIME
    _skiff
    echo "$began $EPOCHREALTIME ${#COMPREPLY[@]}"
done
""",
    "zsh": """
zmodload zsh/datetime
compdef() { :; }
compset() { :; }
compadd() { found=$(( found + ${#plain} )); }
source <(skiff completion zsh)
words=(${=LINE}) CURRENT=${#words}
for ((i = 0; i < TIMES; i++)); do
    found=0 began=$EPOCHREALTIME
    _skiff
    echo "$began $EPOCHREALTIME $found"
done
""",
    # `date` is a process of its own: what one takes is taken off again
    "fish": """
skiff completion fish | source
for i in (seq $TIMES)
    set began (date +%s.%N)
    set found (complete -C "$LINE")
    set ended (date +%s.%N)
    echo $began (math -s9 "$ended - ($(date +%s.%N) - $ended)") (count $found)
end
""",
}


def tabs(shell: str, line: str, times: int, environment: dict[str, str]) -> tuple[list[float], int]:
    """Milliseconds of each tab, and how many candidates the last one had."""
    asked = environment | {"LINE": line, "TIMES": str(times)}
    words = {"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}[shell]
    done = subprocess.run([shell, *words, SHELLS[shell]], env=asked, capture_output=True, text=True)
    rows = [row.split() for row in done.stdout.splitlines()]
    if not rows:
        raise SystemExit(f"{shell} says nothing: {done.stderr}")
    return [(float(ended) - float(began)) * 1000 for began, ended, _ in rows], int(rows[-1][2])


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder, FakeEngine(f"{folder}/e.sock") as engine:
        many = [
            {"Names": [f"/web-{number}"], "Image": "nginx", "State": "running", "Status": "Up 2 hours"}
            for number in range(100)
        ]
        engine.route("GET /containers/json")(lambda request: Reply(body=many))
        engine.route("GET /networks")(lambda _: Reply(body=[{"Name": "bridge", "Driver": "bridge"}]))
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": folder,
            "DOCKER_HOST": engine.url,
        }
        print(f"{'':22}{'least':>7} {'median':>7}")
        for shell in SHELLS:
            for what, line in LINES.items():
                took, count = tabs(shell, line, times, environment)
                least, median = min(took), statistics.median(took)
                print(f"{shell:5} {what:16}{least:7.1f} {median:7.1f}  {count} candidates")


if __name__ == "__main__":
    main()
