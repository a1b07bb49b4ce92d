"""What POST /build says of failing and odd Dockerfiles is what Docker's classic builder says, to the letter.

What Docker said is golden data (streamed.py asks it anew).
"""

import json
from typing import Final

import pytest

from tests.conformance import built, differences, streamed
from tests.integration.engines import Engine

GOLDEN: Final = json.loads(streamed.GOLDEN.read_text())
CASES: Final = streamed.cases()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_said_of_a_dockerfile(case: built.Case, engine: Engine) -> None:
    docker = streamed.alike(GOLDEN[case.name])
    told = streamed.alike(streamed.said(engine.client, case))
    if case.name in differences.STREAMS:
        assert told != docker, "said as Docker says it; the reason can go"
    else:
        assert told == docker


def test_every_reason_has_its_case() -> None:
    assert differences.STREAMS.keys() <= {case.name for case in CASES}
