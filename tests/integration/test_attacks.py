"""What a hostile image or container tries on its host, and what a hostile client tries on the engine."""

import io
import os
import socket
import stat
import sys
import tarfile
from pathlib import Path

import pytest

from tests.integration import busybox
from tests.integration.engines import Engine, wait_for

pytestmark = pytest.mark.root
RUN = ("run", "--rm", "--network", "none")


def said(engine: Engine, *words: str) -> str:
    """Both streams of a script in a container. words: flags, then the script."""
    done = engine.docker(*RUN, *words[:-1], "busybox", "sh", "-c", f"({words[-1]}) 2>&1")
    return done.out


def load(engine: Engine, name: str, **config: object) -> None:
    reply = engine.client.post("/images/load", busybox.archive(name, **config))
    assert reply.status == 200, reply


# -- images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/proc/sys", "//proc/sys/", "/sys/../proc"])
def test_an_image_puts_a_volume_over_proc(engine: Engine, path: str) -> None:
    """CVE-2019-16884: labels would be written into files of the image."""
    load(engine, "evil:proc", Volumes={path: {}})
    done = engine.docker(*RUN, "evil:proc", "true")
    assert done.code != 0
    assert "cannot be mounted because it is" in done.err


def test_an_image_puts_a_volume_over_its_root(engine: Engine) -> None:
    load(engine, "evil:root", Volumes={"/": {}})
    done = engine.docker(*RUN, "evil:root", "true")
    assert done.code != 0
    assert "destination can't be '/'" in done.err


def test_figures_in_proc_may_be_covered(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("1 2\n")
    assert said(engine, "-v", f"{tmp_path}/uptime:/proc/uptime", "cat /proc/uptime").strip() == "1 2"
    assert "host" not in said(engine, "-v", "/proc:/proc", "ls /proc/self/ns/mnt")


def test_an_image_works_above_its_root(engine: Engine) -> None:
    load(engine, "evil:cwd", WorkingDir="../../../..")
    done = engine.docker(*RUN, "evil:cwd", "sh", "-c", "pwd; cat etc/passwd")
    assert done.code != 0 or done.out.encode() == b"/\n" + busybox.PASSWD


def test_proc_is_a_link_of_the_image(engine: Engine) -> None:
    """Masks are looked up by path: what they cover must be what was mounted."""
    id = engine.docker("create", "--network", "none", "busybox", "true").ok()
    link = tarfile.TarInfo("proc")
    link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(link)
    reply = engine.client.request("PUT", f"/containers/{id}/archive", archive.getvalue(), path="/")
    assert reply.status == 200, reply
    done = engine.docker("start", "-a", id)
    assert done.code != 0
    assert "symbolic links" in done.err


# -- containers ----------------------------------------------------------------------------------------------


def test_nodes_of_the_hosts_devices_cannot_be_opened(engine: Engine) -> None:
    disks = [
        Path(f"/sys/class/block/{name}/dev").read_text().strip().split(":")
        for name in os.listdir("/sys/class/block")
    ]
    script = "".join(
        f"mknod /tmp/d{number} b {major} {minor} && head -c 1 /tmp/d{number};"
        for number, (major, minor) in enumerate(disks[:4])
    )
    script += "for n in 1 2 4; do mknod /tmp/c$n c 1 $n && head -c 1 /tmp/c$n; done"
    answers = said(engine, script).splitlines()
    assert len(answers) == len(disks[:4]) + 3
    assert all(line.endswith("Operation not permitted") for line in answers)


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs x /mnt",
        "mount -o remount,rw /sys/fs/cgroup",
        "mount -o remount,bind,rw /proc/sys",
        "umount /proc/keys",
        "unshare -r true",
        "unshare -m true",
        "echo 1 > /proc/sysrq-trigger",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /sys/kernel/uevent_helper",
        "mkdir /sys/fs/cgroup/devices/x",
        "echo a > /sys/fs/cgroup/devices/devices.allow",
        "chroot /proc/1/root true && nsenter -t 1 -m true",
        "echo -1000 > /proc/1/oom_score_adj",
        "hostname elsewhere",
        "dmesg",
    ],
)
def test_what_needs_the_host_is_refused(engine: Engine, attempt: str) -> None:
    assert said(engine, f"({attempt}) >/dev/null 2>&1 && echo done || echo refused").strip() == "refused"


WATCH = """
import os, sys
seen, known = set(), {os.getpid()}
sys.stdout.write("ready\\n"), sys.stdout.flush()
while not os.path.exists("/tmp/enough"):
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) not in known:
            for _ in range(50):
                try:
                    seen.add(os.readlink(f"/proc/{name}/ns/mnt"))
                except OSError:
                    break
            known.add(int(name))
print("watched", len(known) - 1, "namespaces", *sorted(seen | {os.readlink("/proc/self/ns/mnt")}))
"""


def test_a_tracer_meets_no_process_with_the_hosts_files(engine: Engine) -> None:
    """A process that joins is seen in /proc from its birth: it must have left the host's files before."""
    flags = ("--network", "none", "--cap-add", "SYS_PTRACE", "--name", "tracer")
    engine.docker("run", "-d", *flags, "host", sys.executable, "-c", WATCH).ok()
    wait_for(lambda: "ready" in engine.docker("logs", "tracer").out, 20, lambda: "the tracer does not start")
    for _ in range(10):
        engine.docker("exec", "tracer", "true").ok()
    engine.docker("exec", "tracer", "touch", "/tmp/enough").ok()
    engine.docker("wait", "tracer").ok()
    words = engine.docker("logs", "tracer").ok().split()
    assert int(words[2]) > 5, words  # it did see them
    assert words[3] == "namespaces" and len(words[4:]) == 1, words


def test_who_starts_a_process_inside_stays_outside(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--network", "none", "busybox", "sleep", "600").ok()
    made = engine.client.post(f"/containers/{id}/exec", {"Cmd": ["sleep", "600"]}).json()["Id"]
    assert engine.client.post(f"/exec/{made}/start", {"Detach": True}).status == 200
    pid = engine.client.get(f"/exec/{made}/json").json()["Pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    monitor = status.split("PPid:")[1].split()[0]
    for name in ("mnt", "pid", "net", "ipc", "uts"):
        ours, theirs = os.readlink(f"/proc/{monitor}/ns/{name}"), os.readlink(f"/proc/{pid}/ns/{name}")
        assert ours != theirs, name
    assert os.readlink(f"/proc/{monitor}/ns/mnt") == os.readlink("/proc/self/ns/mnt")


def test_masked_files_are_empty(engine: Engine) -> None:
    assert said(
        engine, "cat /proc/keys /proc/timer_list /proc/interrupts; ls -A /proc/acpi /sys/firmware"
    ) in (
        "",
        "/proc/acpi:\n\n/sys/firmware:\n",
    )


def test_a_tree_deeper_than_a_path_can_be_long(engine: Engine) -> None:
    """Its size is asked for, it is copied out of and deleted: each ends, and the engine lives."""
    name = "d" * 100
    dig = f"i=0; while [ $i -lt 60 ]; do mkdir {name}; mv top {name}/; mv {name} top; i=$((i+1)); done"
    dig = f"mkdir top; {dig}"
    script = f"mkdir /t; cd /v; {dig}; cd /t; {dig}"
    assert (
        engine.docker(
            *RUN[:1], *RUN[2:], "--name", "deep", "-v", "deep:/v", "busybox", "sh", "-c", script
        ).code
        == 0
    )
    id = "deep"
    assert engine.client.get(f"/containers/{id}/json", size="1").status == 200
    assert engine.client.get("/system/df").status == 200
    assert engine.docker("rm", "-f", id).code == 0
    assert engine.docker("volume", "rm", "deep").code == 0


def test_a_volume_that_is_filled_holds_links(engine: Engine, tmp_path: Path) -> None:
    """The image's content goes into a volume that another container has: through none of its links."""
    load(engine, "evil:volume", Volumes={"/etc": {}})
    made = engine.client.post("/volumes/create", {"Name": "shared"}).json()
    place = Path(made["Mountpoint"])
    (place / "passwd").symlink_to(tmp_path / "written")
    engine.docker(*RUN, "-v", "shared:/etc", "evil:volume", "true")
    assert not (tmp_path / "written").exists()


# -- the host's own users ------------------------------------------------------------------------------------


def test_nobody_else_passes_the_data_root(engine: Engine) -> None:
    """CVE-2021-41091: a program with set-user-id, made in a container, run by a user of the host."""
    data = Path(engine.root, "data")
    assert stat.S_IMODE(data.stat().st_mode) & 0o007 == 0
    for path in (data / "state.db", Path(engine.socket)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


# -- clients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999999\r\n\r\n{",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET /" + b"a" * (1 << 21) + b" HTTP/1.1\r\n\r\n",
        b"GET /containers/%00%2e%2e%2f/json HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_requests_that_are_none(engine: Engine, request_text: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(engine.socket)
        try:
            client.sendall(request_text)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert engine.client.get("/_ping").body == b"OK"


def test_a_body_of_json_that_is_too_deep_or_too_large(engine: Engine) -> None:
    deep = b'{"Labels":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    large = b'{"Image":"busybox","Env":["' + b"x" * (64 << 20) + b'"]}'
    for body in (deep, large):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(engine.socket)
            head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            try:
                client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            except (BrokenPipeError, ConnectionResetError):
                continue
            assert client.recv(4096).startswith(b"HTTP/1.1 4")
    assert engine.client.get("/_ping").body == b"OK"
