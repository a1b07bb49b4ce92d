"""skiff answers as Docker did when `golden/` was recorded; where it does not, the table says why.

Docker itself is asked too where one may be: SKIFF_DIFFERENTIAL_DOCKER is the socket of an engine that may be
emptied, SKIFF_DIFFERENTIAL_CLI the words of its command line. With --update-golden its answers are recorded.
"""

import difflib
import os
import re
import shlex
from collections.abc import Iterator
from typing import Final

import pytest

from skiff.linux import cgroups
from tests.conformance.differential import cases
from tests.conformance.differential.subject import MARK, Subject
from tests.integration.engines import SKIFF, Engine

PARENT: Final = re.compile(r'(?:--cgroup-parent |"CgroupParent": ")(/\w+)')
DOCKER = os.environ.get("SKIFF_DIFFERENTIAL_DOCKER", "")


@pytest.fixture
def parents(story: str) -> Iterator[None]:
    """The cgroups that a story names as parents go with it: engines let them be, as Docker does."""
    named = set(PARENT.findall("".join(case.line for case in cases.read(story))))
    here = cgroups.layout()
    directories = [path for name in named for path in cgroups.existing(here, name).directories()]
    new = [path for path in directories if not os.path.exists(path)]
    yield
    for path in filter(os.path.exists, new):
        os.rmdir(path)


@pytest.mark.usefixtures("parents")
@pytest.mark.parametrize("story", cases.stories())
def test_skiff_answers_as_docker_did(engine: Engine, story: str) -> None:
    command = [*engine.network.enter, *SKIFF]
    subject = Subject(engine.socket, command, engine.client_environment())
    answers = subject.tell(cases.read(story))
    wrong, obsolete = [], []
    for case, recorded, answer in zip(cases.read(story), golden(story), answers, strict=True):
        same = answer == recorded or blamed_on_the_client(recorded, answer)
        if same and case.difference:
            obsolete.append(case.line)
        elif not same and not case.difference:
            wrong.append(difference(recorded, answer))
    assert not wrong, "\n".join(wrong)
    assert not obsolete, f"answered as Docker does; the reasons can go: {obsolete}"


@pytest.mark.skipif(not DOCKER, reason="no Docker that may be emptied")
@pytest.mark.parametrize("story", cases.stories())
def test_docker_answers_as_it_did(story: str, update_golden: bool) -> None:
    command = shlex.split(os.environ.get("SKIFF_DIFFERENTIAL_CLI", "docker"))
    subject = Subject(DOCKER, command, {"DOCKER_HOST": f"unix://{DOCKER}", "TZ": "UTC"})
    answers = subject.tell(cases.read(story))
    subject.empty()
    if update_golden:
        (cases.GOLDEN / f"{story}.txt").write_text("".join(answers))
    differences = [
        difference(*pair) for pair in zip(golden(story), answers, strict=True) if pair[0] != pair[1]
    ]
    assert not differences, "\n".join(differences)


def golden(story: str) -> list[str]:
    """What Docker answered to each case, in order."""
    recorded = (cases.GOLDEN / f"{story}.txt").read_text()
    answers = [MARK + answer for answer in recorded.split(f"{MARK}")[1:]]
    asked = [case.line for case in cases.read(story)]
    assert [answer.split("\n", 1)[0].removeprefix(MARK) for answer in answers] == asked, "record it anew"
    return answers


def blamed_on_the_client(recorded: str, answer: str) -> bool:
    """Docker answers many a fault of the client with 500, as if it were its own; skiff with 4xx."""
    theirs, ours = recorded.split("\n"), answer.split("\n")
    return theirs[1].startswith("500 ") and ours[1].startswith("4") and theirs[2:] == ours[2:]


def difference(recorded: str, answer: str) -> str:
    lines = difflib.unified_diff(
        recorded.splitlines(), answer.splitlines(), "docker", "skiff", n=1, lineterm=""
    )
    return f"{recorded.partition(chr(10))[0]}\n" + "\n".join(list(lines)[2:]) + "\n"
