"""The Docker Hub as a client meets it: names without a registry, a token first, what is not there denied.

The Hub is tests/conformance/hub.py, in which docker-py's own suite runs, too (`make dockerpy`).
"""

from collections.abc import Iterator

import pytest

from tests.conformance import hub
from tests.integration.conftest import Cli


@pytest.fixture(scope="module")
def hub_engine() -> Iterator[hub.HubEngine]:
    with hub.running() as running:
        yield running


@pytest.fixture(params=["skiff", "docker"])
def at_hub(hub_engine: hub.HubEngine, request: pytest.FixtureRequest) -> Iterator[Cli]:
    words: Cli = getattr(hub_engine, request.param)
    yield words
    for name in words("images", "-q").ok().split():
        words("rmi", "-f", name)


def test_what_runs_is_pulled(at_hub: Cli) -> None:
    ran = at_hub("run", "--rm", "hello-world")
    assert ran.ok() == "Hello from Docker!"
    assert "latest: Pulling from library/hello-world" in ran.err
    assert at_hub("pull", "-q", "alpine:3.10").ok() == "docker.io/library/alpine:3.10"


def test_what_is_not_there(at_hub: Cli) -> None:
    for name in ("nobody-has-this", "nobody/has-this"):
        refused = at_hub("pull", "-q", name)
        assert refused.code == 1
        assert f"pull access denied for {name}, repository does not exist or may require" in refused.err
    refused = at_hub("pull", "-q", "alpine:9")
    assert "manifest for alpine:9 not found: manifest unknown" in refused.err
