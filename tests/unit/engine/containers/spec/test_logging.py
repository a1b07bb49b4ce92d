"""Options of log drivers: what they mean, and what is refused."""

import pytest

from skiff.docker.container import LogConfig
from skiff.engine.containers.spec import logging
from skiff.errors import InvalidParameter


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("journald", {}, 'plugin "journald" not found'),
        ("json-file", {"x": "1"}, "unknown log opt 'x' for json-file log driver"),
        ("local", {"labels": "a"}, "unknown log opt 'labels' for local log driver"),
        ("json-file", {"mode": "x"}, "logging mode not supported: x"),
        ("json-file", {"max-buffer-size": "1m"}, "only supported with"),
        ("json-file", {"max-file": "0"}, "expected 1 or more"),
        ("json-file", {"compress": "maybe"}, "expected true or false"),
        ("json-file", {"max-size": "much"}, "much"),
        ("json-file", {"env-regex": "["}, "invalid env-regex"),
        ("json-file", {"tag": "{{.Nosuch}}"}, "no field Nosuch"),
        ("json-file", {"tag": "{{if .ID}}"}, "invalid tag"),
    ],
)
def test_refusals(driver: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        logging.check(LogConfig(type=driver, config=options))


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("none", {}),
        ("local", {"max-size": "10m"}),
        ("json-file", {"mode": "non-blocking", "max-buffer-size": "1m", "tag": "{{.Name}}-{{ .ID }}"}),
    ],
)
def test_what_is_accepted(driver: str, options: dict[str, str]) -> None:
    logging.check(LogConfig(type=driver, config=options))
