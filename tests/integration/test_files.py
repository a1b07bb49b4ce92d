"""Files in and out of containers: cp: Copy, diff, export, commit, save, load."""

import contextlib
import io
import json
import os
import sqlite3
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.integration.engines import Engine, Run, wait_for


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _file(name: str, data: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def _link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return _file(name, b"", type=tarfile.SYMTYPE, linkname=target)


def _put(engine: Engine, name: str, path: str, archive: bytes, **query: object) -> tuple[int, str]:
    reply = engine.client.request(
        "PUT",
        f"/containers/{name}/archive?path={path}" + "".join(f"&{k}={v}" for k, v in query.items()),
        archive,
    )
    return reply.status, reply.body.decode()


Copy = Callable[..., Run]


@pytest.fixture(params=["docker", "skiff"])
def cp(request: pytest.FixtureRequest, engine: Engine) -> Copy:
    return partial(getattr(engine, request.param), "cp")


def _running(engine: Engine, *words: str, script: str = "sleep 1000") -> None:
    done = engine.docker("run", "-d", "--name", "files", *words, "busybox", "sh", "-c", script)
    assert done.code == 0, done


def _shell(engine: Engine, script: str) -> str:
    done = engine.docker("exec", "files", "sh", "-c", script)
    assert done.code == 0, done
    return done.out


def test_a_file_goes_in_and_comes_back(engine: Engine, cp: Copy, tmp_path: Path) -> None:
    _running(engine)
    (tmp_path / "a").write_text("hello")
    assert cp(str(tmp_path / "a"), "files:/tmp/b").code == 0
    assert _shell(engine, "cat /tmp/b") == "hello"
    assert cp("files:/tmp/b", str(tmp_path / "c")).code == 0
    assert (tmp_path / "c").read_text() == "hello"


def test_directories_are_made_merged_and_emptied_of_their_name(
    engine: Engine, cp: Copy, tmp_path: Path
) -> None:
    _running(engine)
    (tmp_path / "d/in").mkdir(parents=True)
    (tmp_path / "d/in/f").write_text("1")
    for _ in range(2):  # the first makes it, the second goes into it
        assert cp(str(tmp_path / "d"), "files:/new").code == 0
    assert cp(f"{tmp_path}/d/.", "files:/content").code == 0
    assert _shell(engine, "find /new /content -type f | sort") == "/content/in/f\n/new/d/in/f\n/new/in/f\n"
    for _ in range(2):
        assert cp("files:/content", str(tmp_path / "out")).code == 0
    assert (tmp_path / "out/in/f").exists()
    assert (tmp_path / "out/content/in/f").exists()
    assert cp("files:/content/.", str(tmp_path / "out2")).code == 0
    assert (tmp_path / "out2/in/f").exists()


def test_a_stopped_container_is_reached_with_its_volumes(engine: Engine, cp: Copy, tmp_path: Path) -> None:
    assert engine.docker("create", "--name", "files", "-v", "data:/data", "busybox", "true").code == 0
    (tmp_path / "a").write_text("kept")
    assert cp(str(tmp_path / "a"), "files:/data/a").code == 0
    assert engine.docker("run", "--rm", "-v", "data:/v", "busybox", "cat", "/v/a").out == "kept"
    assert cp("files:/data/a", str(tmp_path / "b")).code == 0
    assert (tmp_path / "b").read_text() == "kept"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["files:/nope", "x"], "Could not find the file /nope in container files"),
        (["/etc/passwd", "files:/nodir/"], "no such directory"),
        (["/etc/passwd", "files:/nodir/x"], "Could not find the file /nodir in container files"),
        (["/nofile", "files:/"], "nofile: no such file or directory"),
        (["files:/a", "files:/b"], "copying between containers is not supported"),
        (["/a", "/b"], "must specify at least one container source"),
    ],
)
def test_what_cannot_be_copied_is_refused_in_dockers_words(
    engine: Engine, cp: Copy, words: list[str], said: str
) -> None:
    _running(engine)
    done = cp(*words)
    assert done.code == 1
    assert said in done.err


def test_read_only_places_stay_so(engine: Engine) -> None:
    _running(engine, "--read-only", "-v", "rw:/rw", "-v", "ro:/ro:ro")
    archive = _tar(_file("f"))
    assert _put(engine, "files", "/", archive) == (400, '{"message":"container rootfs is marked read-only"}')
    assert _put(engine, "files", "/ro", archive) == (400, '{"message":"mounted volume is marked read-only"}')
    assert _put(engine, "files", "/rw", archive)[0] == 200


def test_kinds_are_kept_when_asked(engine: Engine) -> None:
    _running(engine, script="mkdir -p /d/sub; echo >/d/f; sleep 1000")
    directory = _tar(_file("f", b"", type=tarfile.DIRTYPE))
    status, said = _put(engine, "files", "/d", directory, noOverwriteDirNonDir=1)
    assert (status, json.loads(said)["message"]) == (
        500,
        'cannot overwrite non-directory "f" with directory "/d"',
    )
    status, said = _put(engine, "files", "/d", _tar(_file("sub")), noOverwriteDirNonDir=1)
    assert json.loads(said)["message"] == 'cannot overwrite directory "sub" with non-directory "/d"'
    assert _put(engine, "files", "/d", directory)[0] == 200


def test_owners_are_those_of_the_archive_or_of_the_user(engine: Engine) -> None:
    _running(engine, "--user", "1234:55")
    assert _put(engine, "files", "/tmp", _tar(_file("a", uid=7, gid=8)))[0] == 200
    assert _put(engine, "files", "/tmp", _tar(_file("b", uid=7, gid=8)), copyUIDGID=1)[0] == 200
    assert _shell(engine, "stat -c %u:%g /tmp/a /tmp/b") == "7:8\n1234:55\n"


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("target", ["/", "/tmp", "/etc", "/proc/1/root", "/../../..", "/proc/self/cwd"])
def test_no_link_leads_out(engine: Engine, tmp_path: Path, target: str, *, is_running: bool) -> None:
    """Whatever the links of archive and container say, nothing outside is read or written."""
    secret = tmp_path / "secret"
    secret.write_text("mine")
    name = "run" if is_running else "create"
    words = ["-d"] if is_running else []
    assert engine.docker(name, *words, "--name", "files", "--pid=host", "busybox", "sleep", "1000").code == 0
    archive = _tar(_link("out", target + str(tmp_path)), _file("out/secret", b"theirs"), _file("out/new"))
    _put(engine, "files", "/", archive)
    assert secret.read_text() == "mine"
    assert os.listdir(tmp_path) == ["secret"]
    assert b"mine" not in engine.client.get("/containers/files/archive?path=/out/secret").body
    assert b"mine" not in engine.client.get("/containers/files/archive?path=/out/.").body


def test_names_with_dots_are_refused(engine: Engine) -> None:
    _running(engine)
    assert _put(engine, "files", "/tmp", _tar(_file("../../etc/evil")))[0] == 400
    assert "evil" not in _shell(engine, "ls /etc /")


def test_a_container_that_swaps_links_meanwhile_reaches_nothing(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    swap = f"mkdir /a; while :; do mv /a /b; ln -s {tmp_path} /a; rm /a; mv /b /a; done"
    _running(engine, script=swap)
    for _ in range(30):
        _put(engine, "files", "/a", _tar(_file("secret", b"theirs"), _file("new")))
        assert b"mine" not in engine.client.get("/containers/files/archive?path=/a/secret").body
    assert (tmp_path / "secret").read_text() == "mine"
    assert os.listdir(tmp_path) == ["secret"]


def test_diff_tells_the_users_changes_only(engine: Engine) -> None:
    _running(engine, "-v", "data:/data", script="rm /bin/yes; mkdir /d; echo >/d/f; sleep 1000")
    whole = ["A /d", "A /d/f", "A /data", "C /bin", "D /bin/yes"]

    def told() -> list[str]:
        return sorted(engine.docker("diff", "files").ok().split("\n"))

    wait_for(lambda: told() == whole, 5, lambda: str(told()))


def test_export_holds_the_root_and_no_volumes(engine: Engine, tmp_path: Path) -> None:
    _running(engine, "-v", "data:/data", script="echo 1 >/data/f; echo 2 >/mine; sleep 1000")
    for _ in range(2):  # running, then stopped
        assert engine.docker("export", "-o", str(tmp_path / "e.tar"), "files").code == 0
        with tarfile.open(tmp_path / "e.tar") as archive:
            names = set(archive.getnames())
        assert {"mine", "data", "bin/busybox"} <= names
        assert "data/f" not in names
        assert engine.docker("stop", "-t", "0", "files").code == 0


def test_commands_begin_while_an_image_is_made(own_engine: Engine) -> None:
    """They wait until the container, which stands still for its copy, goes on; it goes on."""
    script = "mkdir /d; i=0; while [ $i -lt 2000 ]; do echo $i >/d/$i; i=$((i+1)); done; exec sleep 1000"
    own_engine.docker("run", "-d", "--name", "busy", "busybox", "sh", "-c", script).ok()
    wait_for(lambda: own_engine.docker("exec", "busy", "test", "-e", "/d/1999").code == 0, 20, own_engine.log)
    own_engine.client.timeout = 30
    with ThreadPoolExecutor(2) as pool:
        commits = pool.submit(
            lambda: [own_engine.client.post("/commit", container="busy", repo=f"made{n}") for n in range(4)]
        )
        begun = 0
        while not commits.done():
            made = own_engine.client.post("/containers/busy/exec", {"Cmd": ["true"]}).json()
            assert own_engine.client.post(f"/exec/{made['Id']}/start", {"Detach": True}).status == 200
            begun += 1
        assert [commit.status for commit in commits.result()] == [201] * 4
    assert begun >= 4
    assert own_engine.docker("exec", "busy", "echo", "here").ok() == "here"
    own_engine.docker("pause", "busy").ok()
    refused = own_engine.docker("exec", "busy", "true")
    assert "is paused, unpause the container before exec" in refused.err
    own_engine.docker("rm", "-f", "busy").ok()


@pytest.mark.parametrize("kind", ["commit", "snapshot"])
def test_killed_while_a_container_stands_still(own_engine: Engine, kind: str) -> None:
    """It goes on with the next engine."""
    script = "dd if=/dev/zero of=/big bs=1M count=300; while :; do date +%s%N >/tick; sleep 0.02; done"
    own_engine.docker("run", "-d", "--name", "busy", "busybox", "sh", "-c", script).ok()
    wait_for(lambda: own_engine.docker("exec", "busy", "test", "-s", "/tick").code == 0, 20, own_engine.log)
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(own_engine.skiff, kind, "busy", "copied")
        time.sleep(0.2)
        own_engine.crash()
        cut.result()
    own_engine.start()
    data = Path(own_engine.root, "data")
    with contextlib.closing(sqlite3.connect(f"file:{data}/state.db?mode=ro", uri=True)) as state:
        committed = [id for id, row in state.execute("SELECT * FROM snapshot") if b'"committed"' in row]
    directories = [name for name in os.listdir(data / "snapshots") if name.isdigit()]
    assert len(directories) == len(committed) + 1  # the container's; no half copy
    before = own_engine.docker("exec", "busy", "cat", "/tick").ok()
    wait_for(lambda: own_engine.docker("exec", "busy", "cat", "/tick").ok() != before, 10, own_engine.log)
    own_engine.docker("rm", "-f", "busy").ok()


def test_commit_makes_an_image_that_runs(engine: Engine) -> None:
    _running(engine, "-e", "A=1", script="echo new >/mine; sleep 1000")
    done = engine.docker(
        *("commit", "-a", "me", "-m", "why", "-c", 'CMD ["cat","/mine"]', "-c", "ENV B=2", "files", "made:1")
    )
    assert done.code == 0, done
    assert engine.docker("run", "--rm", "made:1").out == "new\n"
    image = engine.client.get("/images/made:1/json").json()
    assert (image["Author"], image["Comment"]) == ("me", "why")
    assert {"A=1", "B=2"} <= set(image["Config"]["Env"])
    assert engine.docker("diff", "files").out == "A /mine\n"
    assert engine.client.get("/containers/files/json").json()["State"]["Status"] == "running"


def test_saved_images_come_back_the_same(engine: Engine, tmp_path: Path) -> None:
    _running(engine, script="echo new >/mine; sleep 1000")
    assert engine.docker("commit", "files", "made:2").code == 0
    id = engine.client.get("/images/made:2/json").json()["Id"]
    archives = []
    for number in range(2):
        path = tmp_path / f"{number}.tar"
        assert engine.docker("save", "-o", str(path), "made:2", "busybox").code == 0
        archives.append(path.read_bytes())
        assert engine.docker("rmi", "made:2").code == 0
        assert engine.docker("load", "-i", str(path)).code == 0
        assert engine.client.get("/images/made:2/json").json()["Id"] == id
    assert archives[0] == archives[1]
    assert engine.docker("run", "--rm", "made:2", "cat", "/mine").out == "new\n"
    assert engine.docker("save", "nosuch").err == "Error response from daemon: No such image: nosuch\n"


def test_names_that_are_not_utf8(engine: Engine, tmp_path: Path) -> None:
    """What travels as bytes keeps its name; where JSON would carry it, it is shown in part, or refused."""
    name = os.fsdecode(b"n\xff\xe9")
    script = (
        r"mkdir /$(printf 'd\377'); echo 1 > /$(printf 'd\377')/$(printf 'n\377\351'); echo ready; sleep 1000"
    )
    engine.skiff("run", "-d", "--name=odd", "--network=none", "busybox", "sh", "-c", script).ok()
    wait_for(lambda: "ready" in engine.skiff("logs", "odd").ok(), 5, lambda: "no file")
    assert engine.skiff("diff", "odd").ok() == "A /d\ufffd\nA /d\ufffd/n\ufffd\ufffd"
    engine.skiff("cp", "odd:/" + os.fsdecode(b"d\xff"), f"{tmp_path}/out").ok()
    assert (tmp_path / "out" / name).read_text() == "1\n"
    engine.skiff("cp", f"{tmp_path}/out/{name}", f"odd:/{name}").ok()
    assert engine.skiff("exec", "odd", "sh", "-c", r"cat /$(printf 'n\377\351')").ok() == "1"
    engine.skiff("cp", f"odd:/{name}", f"{tmp_path}/back").ok()
    assert (tmp_path / "back").read_text() == "1\n"
    refused = engine.skiff("exec", "odd", "cat", f"/{name}")
    assert "is not UTF-8" in refused.err
    engine.skiff("rm", "-f", "odd").ok()


def test_where_cp_leads_and_where_it_does_not(engine: Engine, tmp_path: Path) -> None:
    """Every answer here is Docker's."""
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("f")
    (tmp_path / "nul").symlink_to("/dev/null")
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "link").symlink_to("f")
    engine.skiff("create", "--name=leads", "busybox", "true").ok()
    engine.skiff("cp", f"{tmp_path}/f", "leads:/f").ok()
    engine.skiff("cp", f"{tmp_path}/d", "leads:/d").ok()

    def told(source: str, target: str, *flags: str) -> str:
        done = engine.skiff("cp", *flags, source, target)
        assert done.code == 1
        return done.err.strip().replace(str(tmp_path), "W")

    here = str(tmp_path)
    device = f'invalid output path: "{tmp_path}/nul" must be a directory or a regular file: got a device'
    assert told("leads:/f", f"{here}/nul") == device.replace(here, "W")
    assert told("leads:/f", f"{here}/f/") == "stat W/f/: not a directory"
    assert told("leads:/f", f"{here}/f/.") == "stat W/f/.: not a directory"
    assert told("leads:/d", f"{here}/f") == "cannot copy directory"
    assert told("leads:/f", f"{here}/no/") == "no such directory"
    assert told("leads:/f", f"{here}/no/.") == "stat W/no: no such file or directory"
    assert told("leads:/d", f"{here}/no/x/") == 'invalid output path: directory "W/no" does not exist'
    assert told("leads:/f/.", f"{here}/d", "-L") == (
        "Error response from daemon: lstat /f/.: not a directory"
    )
    assert told(f"{here}/f", "leads:/n/.") == "no such directory"
    assert told(f"{here}/d", "leads:/n/.") == (
        "Error response from daemon: Could not find the file /n in container leads"
    )
    assert (
        told(f"{here}/d", "leads:/f/.") == "Error response from daemon: extraction point is not a directory"
    )
    assert told(f"{here}/f/.", "leads:/n") == "not a directory"
    for end in ("", "/", "/."):
        assert told(f"{here}/none{end}", "leads:/") == "lstat W/none: no such file or directory"
    assert told(f"{here}/dangling/.", "leads:/") == "lstat W/gone: no such file or directory"
    engine.skiff("cp", "leads:/f", f"{here}/dangling").ok()
    assert (tmp_path / "gone").read_text() == "f"
    assert (tmp_path / "dangling").is_symlink()
    engine.skiff("cp", "leads:/f", f"{here}/link").ok()
    assert (tmp_path / "link").is_symlink()
    engine.skiff("rm", "leads").ok()
