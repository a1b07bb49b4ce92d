import pytest

from skiff.docker.container import HostConfig
from skiff.engine.containers.spec import mounts
from skiff.errors import InvalidParameter


@pytest.mark.parametrize(
    "text", ["", "ro", "size=1m,mode=700,uid=5", "rw,noexec,nosuid,nodev", "rshared,sync"]
)
def test_options_of_a_tmpfs(text: str) -> None:
    (plan,) = mounts.plans(HostConfig(tmpfs={"/t": text}), ())
    assert plan.rw is (text != "ro")


@pytest.mark.parametrize("text", ["zz", "huge=always", "size", "bind", "rw,ro=1"])
def test_options_that_a_tmpfs_has_not(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid tmpfs option"):
        mounts.plans(HostConfig(tmpfs={"/t": text}), ())
