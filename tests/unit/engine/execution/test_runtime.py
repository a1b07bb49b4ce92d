"""The fake keeps the contract; failures speak Docker's words."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.contracts.runtime_contract import Make, RuntimeContract
from tests.fakes.fake_runtime import FakeRuntime

from skiff.engine.execution import bundle
from skiff.engine.execution.runtime import Bundle, Runtime, RuntimeFailure, Stdio, failure, instant
from skiff.errors import CannotRun
from skiff.oci.runtime import Mount, Process, Spec
from skiff.paths import RunPaths
from skiff.runtime.protocol import StepError


class TestFakeRuntime(RuntimeContract):
    @pytest.fixture
    async def runtime(self) -> FakeRuntime:
        return FakeRuntime()

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        def make(
            *args: str, terminal: bool = False, stdin: bool = False
        ) -> tuple[Bundle, Sequence[Mount], Stdio]:
            spec = Spec(process=Process(args=args, terminal=terminal))
            stdio = Stdio(terminal=terminal, stdin=stdin, stdin_once=stdin)
            return bundle.write(RunPaths(str(tmp_path)), "c1", spec), (), stdio

        return make


def test_protocols_fit_the_fake() -> None:
    runtime: type[Runtime] = FakeRuntime
    assert runtime is FakeRuntime


def test_a_step_that_failed_is_named() -> None:
    error = failure(StepError("mount /proc", 1, "operation not permitted"))
    assert isinstance(error, RuntimeFailure)
    assert (str(error), error.step, error.errno) == (
        "mount /proc: operation not permitted",
        "mount /proc",
        1,
    )


@pytest.mark.parametrize(("number", "code"), [(2, 127), (13, 126), (21, 126)])
def test_exit_codes_of_commands_that_cannot_run(number: int, code: int) -> None:
    error = failure(StepError("exec", number, 'exec: "x": no'), doing="exec")
    assert isinstance(error, CannotRun)
    assert error.exit_code == code
    assert str(error).startswith(
        "OCI runtime exec failed: exec failed: unable to start container process: exec:"
    )


def test_a_bundle_is_replaced_whole(tmp_path: Path) -> None:
    run = RunPaths(str(tmp_path))
    made = bundle.write(run, "a", Spec(hostname="one"))
    Path(made.path, "status.json").write_text("{}")
    made = bundle.write(run, "a", Spec(hostname="two"))
    assert sorted(p.name for p in Path(made.path).iterdir()) == ["config.json", "rootfs"]
    assert b"two" in Path(made.path, "config.json").read_bytes()
    bundle.remove(run, "a")
    bundle.remove(run, "a")
    assert not Path(made.path).exists()


def test_instants_are_utc() -> None:
    assert instant(1_500_000_000).isoformat() == "1970-01-01T00:00:01.500000+00:00"
