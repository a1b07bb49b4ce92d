import logging

import pytest

from skiff import errors
from skiff.engine.api import faults


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidParameter("x"), 400),
        (errors.CannotRun("x", 127), 400),
        (errors.HostileArchive("x"), 400),
        (errors.Unauthorized("x"), 401),
        (errors.Forbidden("x"), 403),
        (errors.NotFound("x"), 404),
        (errors.Conflict("x"), 409),
        (errors.AlreadyExists("x"), 409),
        (errors.Unavailable("x"), 503),
        (errors.NotImplementedHere("x"), 501),
        (errors.DigestMismatch("x"), 500),
        (ValueError("x"), 500),
    ],
)
def test_each_class_has_its_status(error: Exception, status: int) -> None:
    reply = faults.reply(error)
    assert reply.status == status
    assert reply.body == b'{"message":"x"}'


def test_what_a_person_is_shown_besides_stands_apart() -> None:
    error = errors.InvalidParameter("x")
    error.detail = "\nhere"
    assert faults.reply(error).body == b'{"message":"x","detail":"\\nhere"}'


def test_not_modified_has_no_body() -> None:
    reply = faults.reply(errors.NotModified("x"))
    assert reply.status == 304
    assert not reply.body


def test_a_bug_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        try:
            raise KeyError
        except KeyError as error:
            assert faults.reply(error).body == b'{"message":"KeyError"}'
    assert caplog.records[0].exc_info is not None


def test_a_refusal_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    faults.reply(errors.NotFound("x"))
    assert not caplog.records
