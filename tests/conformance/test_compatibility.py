"""The table of what is done is true and current; what is done takes every flag that Docker's takes."""

from tests.conformance.compatibility import (
    ABSENT,
    PAGE,
    command_states,
    commands,
    endpoint_states,
    endpoints,
    flags_shown,
    page,
    parameters_shown,
)


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_endpoint_has_an_answer() -> None:
    assert len(list(endpoints())) == 107
    absent = [f"{method} {path}" for method, path, state in endpoint_states() if state == ABSENT]
    assert absent == []


def test_the_facts_are_read() -> None:
    facts = dict(commands())
    assert len(facts) == 131
    assert facts["docker run"]["--detach"] == "d"
    assert "--rm" in facts["docker run"]
    assert len(facts["docker run"]) > 90


def test_commands_of_every_day_are_whole() -> None:
    states = {command: flags for command, _, flags in command_states()}
    for command in (
        "run",
        "create",
        "start",
        "exec",
        "attach",
        "logs",
        "ps",
        "stop",
        "kill",
        "rm",
        "wait",
        "events",
    ):
        missing = [flag for flag, state in states[f"docker {command}"].items() if state == ABSENT]
        assert missing == [], command


def test_every_parameter_has_a_test() -> None:
    shown = list(parameters_shown())
    assert len(shown) > 400
    assert [f"{endpoint}: {name}" for endpoint, name, tests in shown if not tests] == []


def test_every_flag_has_a_test() -> None:
    shown = list(flags_shown())
    assert len(shown) > 400
    untested = [f"{command} {flag}" for command, flag, state, tests in shown if state != ABSENT and not tests]
    assert untested == []
