"""Every form of a mount, seen from inside a container."""

import os
from pathlib import Path

import pytest

from skiff.linux import mounts
from tests.integration.engines import Engine


def _run(engine: Engine, *words: str, script: str) -> str:
    done = engine.docker("run", "--rm", *words, "busybox", "sh", "-c", script)
    assert done.code == 0, done
    return done.out


@pytest.fixture
def volume(engine: Engine) -> str:
    _run(
        engine, "-v", "data:/v", script="mkdir -p /v/a/b; echo 1 >/v/a/b/f; ln -s /etc /v/esc; ln -s a /v/in"
    )
    return "data"


@pytest.mark.parametrize(("part", "expected"), [("a/b", "f\n"), ("in", "b\n"), ("a/b/f", "/m\n")])
def test_a_part_of_a_volume(engine: Engine, volume: str, part: str, expected: str) -> None:
    words = ["--mount", f"type=volume,src={volume},dst=/m,volume-subpath={part}"]
    assert _run(engine, *words, script="ls /m") == expected
    assert engine.docker("create", "--name", "part", *words, "busybox", "true").code == 0
    assert engine.docker("cp", "part:/m", "-").code == 0


@pytest.mark.parametrize("part", ["nope", "../x", "/a", "esc", "a/../../x"])
def test_a_part_that_is_not_in_it(engine: Engine, volume: str, part: str) -> None:
    mount = f"type=volume,src={volume},dst=/m,volume-subpath={part}"
    done = engine.docker("run", "--rm", "--mount", mount, "busybox", "ls", "/m")
    assert done.code in (125, 127)  # the client takes some of the words for a missing command
    assert "path" in done.err


def test_first_use_copies_what_the_image_has_unless_told_not_to(engine: Engine) -> None:
    assert "busybox" in _run(engine, "-v", "one:/bin:ro", script="ls /bin")
    assert "busybox" in _run(engine, "-v", "one:/copy", script="ls /copy")
    assert _run(engine, "-v", "two:/tmp", script="stat -c %a /tmp") == "1777\n"
    assert _run(engine, "-v", "three:/var:nocopy", script="ls /var") == ""


def test_volumes_of_others(engine: Engine) -> None:
    words = ["-v", "shared:/s", "-v", "/anonymous"]
    assert engine.docker("create", "--name", "owner", *words, "busybox", "true").code == 0
    _run(engine, "--volumes-from", "owner", script="echo 1 >/s/f; echo 2 >/anonymous/f")
    assert _run(engine, "--volumes-from", "owner:ro", script="cat /s/f /anonymous/f; touch /s/x || true") == (
        "1\n2\n"
    )
    assert _run(engine, "-v", "shared:/s", script="cat /s/f") == "1\n"


def test_memory_with_options(engine: Engine) -> None:
    words = ["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700"]
    out = _run(
        engine,
        *words,
        script="stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'; grep ' /t ' /proc/mounts",
    )
    mode, size, line = out.splitlines()
    assert (mode, size) == ("700", "1024")
    assert "noexec" in line
    assert "noexec" not in _run(engine, "--tmpfs", "/t:exec,size=1m", script="grep ' /t ' /proc/mounts")


def test_a_missing_source_is_made_for_v_and_refused_for_mount(engine: Engine, tmp_path: Path) -> None:
    made = tmp_path / "made"
    _run(engine, "-v", f"{made}:/m", script="echo 1 >/m/f")
    assert (made / "f").read_text() == "1\n"
    done = engine.docker("run", "--rm", "--mount", f"type=bind,src={tmp_path}/no,dst=/m", "busybox", "true")
    assert done.code == 125
    assert f"bind source path does not exist: {tmp_path}/no" in done.err


@pytest.mark.parametrize(("depth", "inner"), [("disabled", "ro"), ("writable", "rw"), ("enabled", "ro")])
def test_read_only_reaches_as_deep_as_asked(engine: Engine, tmp_path: Path, depth: str, inner: str) -> None:
    (tmp_path / "in").mkdir()
    assert engine.run("mount", "-t", "tmpfs", "none", str(tmp_path / "in")).code == 0
    try:
        mount = f"type=bind,src={tmp_path},dst=/m,readonly,bind-recursive={depth}"
        script = "touch /m/x 2>/dev/null || echo ro; touch /m/in/x && echo rw || echo ro"
        assert _run(engine, "--mount", mount, script=script) == f"ro\n{inner}\n"
    finally:
        assert engine.run("umount", str(tmp_path / "in")).code == 0


def test_what_is_made_through_an_id_mapped_bind_belongs_to_the_sources_owner(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("x")
    (tmp_path / "roots").write_text("x")
    for path in (tmp_path, tmp_path / "mine"):
        os.chown(path, 1234, 1235)
    words = ["-v", f"{tmp_path}:/m:idmap"]
    script = "cd /m; stat -c %u:%g . mine; echo 1 >new; mkdir d; chown 7:7 d; echo 2 >>mine; "
    script += "chown 1234 new || echo no"
    assert _run(engine, *words, script=script) == "0:0\n0:0\nno\n"
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()}
    assert owners == {"mine": (1234, 1235), "new": (1234, 1235), "d": (7, 7), "roots": (0, 0)}
    assert _run(engine, "-u", "55:66", *words, script="cd /m; echo 1 >his; stat -c %u:%g his") == "55:66\n"
    assert ((tmp_path / "his").stat().st_uid, (tmp_path / "his").stat().st_gid) == (1234, 1235)


def test_an_id_mapped_volume_is_refused(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "-v", "data:/m:idmap", "busybox", "true")
    assert done.code == 125
    assert "field BindOptions must not be specified" in done.err


def test_a_share_of_the_network_needs_its_client_in_the_kernel(engine: Engine) -> None:
    if "nfs4" in Path("/proc/filesystems").read_text().split():
        pytest.skip("this kernel has a client for NFS")
    options = ["-o", "type=nfs4", "-o", "device=:/x", "-o", "o=addr=127.0.0.1"]
    assert engine.docker("volume", "create", *options, "share").code == 0
    done = engine.docker("run", "--rm", "-v", "share:/s", "busybox", "true")
    assert done.code != 0
    assert "no such device: this kernel has no nfs4" in done.err


@pytest.mark.parametrize(("mode", "inner"), [("rshared", True), ("rslave", False), ("rprivate", False)])
def test_mounts_made_inside_appear_outside_where_they_are_shared(
    engine: Engine, tmp_path: Path, mode: str, *, inner: bool
) -> None:
    source = str(tmp_path / "shared")
    os.makedirs(f"{source}/sub")
    mounts.mount(source, source, None, mounts.MS_BIND)
    try:
        mounts.set_propagation(source, mounts.MS_SHARED)
        words = ["-v", f"{source}:/m:{mode}", "--cap-add", "SYS_ADMIN"]
        _run(engine, *words, script="mount -t tmpfs t /m/sub && echo 1 >/m/sub/f")
        assert os.path.exists(f"{source}/sub/f") is inner
    finally:
        mounts.unmount(source)  # with what is mounted below
