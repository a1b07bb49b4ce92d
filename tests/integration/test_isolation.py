"""What a container cannot see, reach or change; and what it is given."""

import os
import re
import struct
from pathlib import Path

import pytest

from tests.integration import busybox
from tests.integration.client import read_to_end, unframed
from tests.integration.engines import Engine

pytestmark = pytest.mark.root
RUN = ("run", "--rm", "--network", "none")


def said(engine: Engine, *words: str) -> str:
    """words: flags, then the script."""
    return engine.docker(*RUN, *words[:-1], "busybox", "sh", "-c", words[-1]).ok()


def test_a_network_of_its_own_has_a_loopback(engine: Engine) -> None:
    shown = engine.docker(*RUN, "busybox", "ip", "addr").ok()
    assert "127.0.0.1/8" in shown
    assert "LOOPBACK,UP" in shown


def test_only_three_descriptors_and_none_of_the_host(engine: Engine) -> None:
    # The fourth is the directory that ls reads.
    assert said(engine, "exec ls /proc/self/fd").split() == ["0", "1", "2", "3"]
    assert engine.root not in said(engine, "ls -l /proc/self/fd")


def test_an_exec_gets_no_descriptor_of_the_host(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--network", "none", "busybox", "sleep", "60").ok()
    assert engine.docker("exec", id, "ls", "/proc/self/fd").ok().split() == ["0", "1", "2", "3"]
    assert engine.root not in engine.docker("exec", id, "ls", "-l", "/proc/self/fd").ok()


def test_no_mount_of_the_host_is_seen(engine: Engine) -> None:
    points = said(engine, "awk '{print $5}' /proc/self/mountinfo").split()
    known = re.compile(
        r"/(proc(/.*)?|dev(/.*)?|sys(/.*)?|etc/(hosts|hostname|resolv\.conf))?$",
    )
    assert [point for point in points if not known.match(point)] == []
    assert said(engine, "ls -d /proc/1/root/*").split() == said(engine, "ls -d /proc/1/root/*").split()


def test_a_working_directory_that_is_a_descriptor_leads_nowhere(engine: Engine) -> None:
    """CVE-2024-21626: a descriptor of the host's, kept open, as the way out."""
    for number in range(3, 16):
        done = engine.docker(
            *RUN, "-w", f"/proc/self/fd/{number}", "busybox", "sh", "-c", "cat ../../../../../../etc/passwd"
        )
        # One of them may be the container's own root; what is outside it is refused.
        assert done.code != 0 or done.out.encode() == busybox.PASSWD


def test_an_exec_into_a_descriptor_leads_nowhere(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--network", "none", "busybox", "sleep", "60").ok()
    for number in range(3, 12):
        done = engine.docker("exec", "-w", f"/proc/self/fd/{number}", id, "ls", "../../..")
        assert done.code != 0


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the attack is machine code for x86-64")
def test_the_runtime_cannot_be_overwritten_through_proc(engine: Engine, tmp_path: Path) -> None:
    """CVE-2019-5736: the command is a link to the runtime itself, and the loader is the attacker's.

    So his code runs with /proc/self/exe being the host's interpreter. He keeps a descriptor of it over an
    execve, after which nobody runs the file, and opens it for writing.
    """
    evil = tmp_path / "evil"
    script = "ls -l /proc/self/fd/3; touch -c /proc/self/fd/3; : >>/proc/self/fd/3; echo wrote"
    evil.write_bytes(_loader(script))
    evil.chmod(0o755)
    done = engine.docker(
        *RUN, "-v", f"{evil}:{_interpreter()}:ro", "--entrypoint", "/proc/self/exe", "busybox", "sh"
    )  # fmt: skip
    assert "/proc/self/fd/3 -> " in done.out, done  # he got that far
    # Writing is refused first because the file is in use; touching shows that it would be anyway.
    assert "Read-only file system" in done.err
    assert "wrote" not in done.out


def _interpreter() -> str:
    """The loader that the program of this interpreter names."""
    program = Path("/proc/self/exe").read_bytes()
    start = program.index(b"/lib64/ld-linux")
    return program[start : program.index(b"\0", start)].decode()


def _loader(script: str) -> bytes:
    """A static ELF: open("/proc/self/exe", O_PATH), then execve("/bin/sh", "-c", script)."""
    base, code_at, data_at = 0x10000000, 0x78, 0x100
    words = [b"/proc/self/exe\0", b"/bin/sh\0", b"-c\0", script.encode() + b"\0"]
    places = [base + data_at + sum(map(len, words[:n])) for n in range(len(words))]
    data = b"".join(words)
    data += bytes(-len(data) % 8)
    table = base + data_at + len(data)
    data += struct.pack("<4Q", places[1], places[2], places[3], 0)
    code = b"\xb8\x02\0\0\0\xbf" + struct.pack("<I", places[0])  # mov eax, open; mov edi, path
    code += b"\xbe" + struct.pack("<I", os.O_PATH) + b"\x0f\x05"  # mov esi, O_PATH; syscall
    code += b"\xb8\x3b\0\0\0\xbf" + struct.pack("<I", places[1])  # mov eax, execve; mov edi, program
    code += b"\xbe" + struct.pack("<I", table) + b"\x31\xd2\x0f\x05"  # mov esi, argv; xor edx, edx; syscall
    size = data_at + len(data)
    header = b"\x7fELF\2\1\1" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + code_at, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 7, 0, base, base, size, size, 0x1000)
    return (header + code).ljust(data_at, b"\0") + data


def test_init_of_an_init_container_shows_nothing_writable(engine: Engine) -> None:
    script = "cat /proc/1/exe 2>&1 | head -c 100; (: >>/proc/1/exe) 2>&1; ls -l /proc/1/fd 2>&1 | wc -l"
    out = said(engine, "--init", script)
    assert "ermission denied" in out or "Read-only" in out or "Text file busy" in out


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_masked_files_are_empty(path: str, engine: Engine) -> None:
    if os.path.exists(path):
        assert said(engine, f"wc -c < {path}") == "0"


def test_masked_directories_are_empty_and_read_only(engine: Engine) -> None:
    out = said(
        engine,
        "for d in /proc/acpi /proc/scsi /sys/firmware; do [ -d $d ] || continue; ls -A $d; "
        "touch $d/x 2>/dev/null && echo written; done; true",
    )
    assert out == ""


def test_kernel_settings_are_read_only(engine: Engine) -> None:
    script = (
        "for f in /proc/sys/kernel/panic /proc/sysrq-trigger /sys/kernel/mm/ksm/run; do"
        " [ -e $f ] && (echo 0 > $f) 2>/dev/null && echo wrote $f; done; true"
    )
    assert said(engine, script) == ""


def test_proc_and_sys_have_docker_s_flags(engine: Engine) -> None:
    mounts = dict(line.split(" ")[4:6] for line in said(engine, "cat /proc/self/mountinfo").splitlines())
    assert set(mounts["/proc"].split(",")) >= {"nosuid", "nodev", "noexec"}
    assert set(mounts["/sys"].split(",")) >= {"ro", "nosuid", "nodev", "noexec"}
    assert "ro" in mounts["/proc/sys"].split(",")
    assert set(mounts["/dev"].split(",")) >= {"nosuid"}


def test_no_signal_is_ignored_or_blocked(engine: Engine) -> None:
    lines = said(engine, "cat /proc/1/status | grep Sig[IB]").splitlines()
    assert {line.split()[1] for line in lines} <= {"0" * 16, "0000000000000004"}


def test_devices_that_were_not_given_cannot_be_opened(engine: Engine) -> None:
    out = said(engine, "mknod /d b 8 0 && (cat /d) 2>&1; mknod /m c 1 1 && (cat /m) 2>&1; true")
    assert out.count("Operation not permitted") == 2


def test_capabilities_seccomp_and_no_new_privileges(engine: Engine) -> None:
    out = said(
        engine,
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status",
    )
    fields = dict(line.split(":\t") for line in out.splitlines())
    assert fields == {
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    assert (
        "Operation not permitted"
        in engine.docker(*RUN, "busybox", "sh", "-c", "unshare -U true; mount -t tmpfs x /mnt").err
    )


def test_read_only_root_and_tmpfs(engine: Engine) -> None:
    out = said(engine, "--read-only", "--tmpfs", "/t:size=1m", "touch /x 2>&1; touch /t/x && echo ok")
    assert "Read-only file system" in out
    assert out.endswith("ok")


def test_propagation_of_binds(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    line = said(engine, "-v", f"{tmp_path}:/b:ro", "grep ' /b ' /proc/self/mountinfo; touch /b/x 2>&1; true")
    assert "ro," in line
    assert "shared:" not in line
    assert "master:" not in line
    assert "Read-only" in line


def test_a_recursively_read_only_bind(engine: Engine, tmp_path: Path) -> None:
    line = said(
        engine,
        "--mount",
        f"type=bind,src={tmp_path},dst=/b,readonly,bind-recursive=readonly,bind-propagation=rprivate",
        "grep ' /b ' /proc/self/mountinfo",
    )
    assert " ro," in line


def test_the_namespaces_of_another_container(engine: Engine) -> None:
    one = engine.docker("run", "-d", "--network", "none", "busybox", "sleep", "60").ok()
    out = said(engine, "--pid", f"container:{one}", "ps -o args")
    assert "sleep 60" in out


def test_shared_memory_of_another_container(engine: Engine) -> None:
    quiet = ("run", "-d", "--network", "none", "--name")
    engine.docker(*quiet, "owner", "--ipc", "shareable", "--shm-size", "1m", "busybox", "sleep", "60").ok()
    guest = ("run", "--rm", "--network", "none", "--ipc", "container:owner", "busybox", "sh", "-c")
    engine.docker("exec", "owner", "sh", "-c", "echo mine > /dev/shm/a").ok()
    script = "cat /dev/shm/a; echo yours > /dev/shm/b; grep -c ' /dev/shm .*nosuid.*size=1024k' /proc/mounts"
    assert engine.docker(*guest, script).ok() == "mine\n1"
    assert engine.docker("exec", "owner", "cat", "/dev/shm/b").ok() == "yours"

    ipc = engine.docker("exec", "owner", "readlink", "/proc/self/ns/ipc").ok()
    assert engine.docker(*guest, "readlink /proc/self/ns/ipc").ok() == ipc

    # the guest's hold on it outlives the owner
    engine.docker(*quiet, "stays", "--ipc", "container:owner", "busybox", "sleep", "60").ok()
    engine.docker("rm", "-f", "owner").ok()
    assert engine.docker("exec", "stays", "cat", "/dev/shm/a").ok() == "mine"

    engine.docker(*quiet, "closed", "busybox", "sleep", "60").ok()
    refused = engine.docker("run", "--rm", "--ipc", "container:closed", "busybox", "true")
    assert refused.code == 125 and "non-shareable IPC" in refused.err


def test_exec_streams_are_framed_as_the_start_says(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--network", "none", "busybox", "sleep", "60").ok()
    for has_terminal in (False, True):
        wish = {"Cmd": ["echo", "hi"], "AttachStdout": True, "AttachStderr": True, "Tty": has_terminal}
        for framed in (False, True):
            made = engine.client.post(f"/containers/{id}/exec", wish).json()["Id"]
            stream, kind = engine.client.stream(f"/exec/{made}/start", {"Tty": not framed})
            data = read_to_end(stream)
            assert ("multiplexed" in kind) is framed
            text = unframed(data)[1] if framed else data
            assert text.split() == [b"hi"]
