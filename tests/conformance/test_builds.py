"""Docker and skiff build the same Dockerfiles: the same trees, configurations, histories, refusals.

What Docker made of them is golden data (record_builds.py writes it anew).
"""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.conformance import built, differences
from tests.integration import busybox
from tests.integration.engines import Engine

GOLDEN: Final = json.loads((built.HOME / "docker.json").read_text())
CASES: Final = built.cases()


def _made(case: built.Case, engine: Engine, root: Path) -> built.Result:
    case.write(root)
    done = engine.skiff("build", "--no-cache", "-t", "corpus", *case.words(root))
    if done.code:
        return {"error": done.err or done.out}
    saved = engine.client.get("/images/corpus/get").body
    return differences.alike(built.result(saved, busybox.diff_id()))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_dockerfile_gives_what_docker_gives(case: built.Case, engine: Engine, tmp_path: Path) -> None:
    docker = GOLDEN[case.name]
    made = _made(case, engine, tmp_path)
    if case.name in differences.KNOWN:
        assert ("error" in made) != ("error" in docker) or made != differences.alike(docker)
    elif "error" in docker:
        assert "error" in made, made
    else:
        assert made == differences.alike(docker)
