"""`host`: a container of this machine's own root. Written to and read by no one but itself."""

import os
import uuid
from pathlib import Path

from tests.integration.conftest import Cli
from tests.integration.engines import Engine


def test_programs_of_the_machine(cli: Cli) -> None:
    assert cli("run", "--rm", "host", "sh", "-c", "echo from $0; id -u").ok() == "from sh\n0"
    assert cli("run", "--rm", "host", "cat", "/etc/os-release").ok() == Path(
        "/etc/os-release"
    ).read_text().rstrip("\n")


def test_the_machine_s_root_stays_as_it_is(cli: Cli) -> None:
    mark = f"/skiff-test-{uuid.uuid4().hex}"
    script = f"echo x > {mark} && cat {mark} && rm -rf /opt /etc/hostname && ls -d /opt"
    done = cli("run", "--rm", "host", "sh", "-c", script)
    assert done.out == "x\n"
    assert not os.path.exists(mark)
    assert os.path.isdir("/opt")


def test_secrets_are_masked(cli: Cli) -> None:
    shown = cli(
        "run", "--rm", "host", "sh", "-c", "cat /etc/shadow; ls -A /root/.ssh; ls /proc/1/exe >/dev/null"
    )
    assert "root:" not in shown.out.replace("root:x:", "")
    assert shown.out.strip() == ""


def test_it_is_an_image_like_others(cli: Cli) -> None:
    assert cli("image", "inspect", "-f", "{{.Os}}", "host").ok() == "linux"
    cli("create", "--name", "box", "host", "true").ok()
    assert cli("inspect", "-f", "{{.Config.Image}}", "box").ok() == "host"


def test_a_container_of_it_becomes_no_image(cli: Cli) -> None:
    cli("create", "--name", "box", "host", "true").ok()
    done = cli("commit", "box", "copy:1")
    assert done.code == 1
    assert "the image host is this machine: a container of it cannot become an image" in done.err


def test_branches_on_a_shared_file_system_are_refused(engine: Engine) -> None:
    assert engine.skiff("create", "--name", "box", "host", "true").code == 0
    done = engine.skiff("snapshot", "box", "one")
    if done.code == 0:  # the data root is a file system of its own here
        assert engine.skiff("rollback", "box", "one").code == 0
    else:
        assert "expected a data root on a file system of its own" in done.err
    assert engine.skiff("start", "-a", "box").code == 0
    assert engine.skiff("rm", "box").code == 0
