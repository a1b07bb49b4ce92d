"""`skiff check` on whatever machine this is, and its table."""

import errno
import os

import pytest

from skiff.cli import check
from skiff.cli.check import Finding


def test_it_looks_at_everything_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code = check.check()
    out = capsys.readouterr().out
    for name in (
        "root",
        "pid namespace",
        "control groups",
        "overlay",
        "seccomp",
        "clone3",
        "nftables",
        "isal",
    ):
        assert f"\n{name}" in f"\n{out}"
    assert ("Containers can run here" in out) == (code == 0)


@pytest.mark.root
def test_for_an_ordinary_user() -> None:
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            code = check.check()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1


def test_a_lack_says_what_it_costs_and_what_helps() -> None:
    text = check.table(
        [
            Finding("a", True, "fine"),
            Finding("bb", False, "", "much", "buy it"),
            Finding("c", False, needed=True),
        ]
    )
    assert text.splitlines() == [
        "a   ok       fine",
        "bb  absent",
        "             cost: much",
        "             help: buy it",
        "c   MISSING",
    ]


def test_what_is_needed_decides(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(check, "findings", lambda: [Finding("x", False), Finding("y", True, needed=True)])
    assert check.check() == 0
    monkeypatch.setattr(check, "findings", lambda: [Finding("x", False, needed=True)])
    assert check.check() == 1
    assert "x missing" in capsys.readouterr().out


def test_an_attempt_happens_elsewhere() -> None:
    def act() -> int:
        raise PermissionError(errno.EPERM, "no")

    before = os.getpid()
    assert check.attempt(act) == errno.EPERM
    assert check.attempt(lambda: 0) == 0
    assert os.getpid() == before
