"""What steps are called, and the shell command that does the same."""

import struct
from ipaddress import IPv4Address, IPv4Network, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.networks.firewall import whole
from skiff.engine.networks.ruleset import Published, Wall, ruleset
from skiff.engine.system import shell, trace
from skiff.linux import links, mounts, nftables, processes
from skiff.linux.netlink import Message
from skiff.linux.watching import Step


def step(name: str, *args: Any, begin: int = 0, end: int = 1000, pid: int = 1, error: str = "") -> Step:
    return Step(name, list(args), begin, end, pid, error)


NAMES = [[1, "lo"], [2, "eth0"], [4, "skiff0"]]


def wire(*messages: Message) -> list[Any]:
    return [[message.type, message.flags, message.body.hex()] for message in messages]


def route(*messages: Message) -> tuple[Any, ...]:
    return ("netlink.request", *wire(*messages), NAMES)


ID = "d6f5fd6a2f1a" + "0" * 52
CLONE = struct.pack("=Q", 0x20000000 | 0x20000 | 0x1000).hex()


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (("mount", "proc", "/proc", "proc", 14, None), "mount -t proc -o nosuid,nodev,noexec proc /proc"),
        (("mount", "shm", "/dev/shm", "tmpfs", 0, "size=64m"), "mount -t tmpfs -o size=64m shm /dev/shm"),
        (("mount", "/a b", "/c", None, mounts.MS_BIND, None), "mount --bind '/a b' /c"),
        (("mount", None, "/", None, mounts.MS_SLAVE | mounts.MS_REC, None), "mount --make-rslave /"),
        (("umount2", "/x", 2), "umount -l /x"),
        (
            ("mount_setattr", "/x", "", 0, struct.pack("=4Q", 1, 0, 0, 0).hex(), 32),
            "mount -o remount,bind,ro /x",
        ),
        (
            ("mount_setattr", "/x", "", 0, struct.pack("=4Q", 0, 0, mounts.MS_PRIVATE, 0).hex(), 32),
            "mount --make-private /x",
        ),
        (("pivot_root", ".", "."), "pivot_root . . && umount -l ."),
        (("clone3", CLONE, 88), "unshare --pid --mount --fork …"),
        (("unshare", 0x40000000), "unshare --net …"),
        (("setns", "net:[1]", 0x40000000), "nsenter --net -t PID …"),
        (("sethostname", "web", 3), "hostname web"),
        (("os.mkdir", "/sys/fs/cgroup/cpu/x", 0o755), "mkdir -m 755 /sys/fs/cgroup/cpu/x"),
        (
            ("os.write", "/sys/fs/cgroup/cpu/x/cpu.shares", "512"),
            "echo 512 > /sys/fs/cgroup/cpu/x/cpu.shares",
        ),
        (("os.write", "/sys/fs/cgroup/cpu/x/tasks", "0"), "echo $$ > /sys/fs/cgroup/cpu/x/tasks"),
        (("os.mknod", "/dev/null", 0o20666, 0x103), "mknod -m 666 /dev/null c 1 3"),
        (("os.symlink", "pts/ptmx", "/dev/ptmx"), "ln -s pts/ptmx /dev/ptmx"),
        (("os.fchown", "/x", 5, -1), "chown 5: /x"),
        (("os.setgroups", []), "setpriv --clear-groups …"),
        (("os.setresuid", 33, 33, 33), "setpriv --reuid 33 …"),
        (("setrlimit", 7, [1024, -1]), "prlimit --nofile=1024:unlimited"),
        (("prctl", 38, 1, 0, 0, 0), "setpriv --no-new-privs"),
        (("prctl", 24, 0, 21), "capsh --drop=cap_chown,cap_sys_admin"),
        (("capset", "", struct.pack("6I", 1, 1, 0, 0, 0, 0).hex()), "capsh --caps=cap_chown+ep"),
        (("keyctl", 1, 0), "keyctl new_session"),
        (("os.execve", "/bin/sh", ["sh", "-c", "it's"], "…"), "exec sh -c 'it'\\''s'"),
        (route(links.up(1)), "ip link set dev lo up"),
        (
            route(links.address(2, ip_interface("172.17.0.2/16")), links.up(2)),
            "ip addr add 172.17.0.2/16 dev eth0; ip link set dev eth0 up",
        ),
        (
            route(links.route(None, gateway=IPv4Address("172.17.0.1"))),
            "ip route add default via 172.17.0.1",
        ),
        (
            route(links.route(ip_network("10.0.0.0/8"), device=3)),
            "ip route add 10.0.0.0/8 dev if3",
        ),
        (
            route(links.bridge("skiff0")),
            "ip link add skiff0 type bridge && ip link set skiff0 up",
        ),
        (
            route(links.veth("v1", master=4, peer="eth0", peer_netns=9, peer_mac="02:42:00:00:00:01")),
            "ip link add v1 type veth peer name eth0 netns PID address 02:42:00:00:00:01 "
            "&& ip link set v1 master skiff0 && ip link set v1 up",
        ),
        (route(links.deleted(7)), "ip link del dev if7"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_the_command_that_does_the_same(args: tuple[Any, ...], command: str) -> None:
    assert shell.told(step(*args)).shell == command


def test_firewall_transactions_in_the_words_of_nft() -> None:
    element = nftables.Element(b"\x06\0\0\0\x1f\x90\0\0", b"\xac\x11\0\x02\0P\0\0")
    messages = wire(*nftables.add_elements("skiff", "pub4_any", [element]))
    said = shell.told(step("netlink.transaction", [], messages, []))
    assert said.title == "firewall, one transaction: 1 element"
    assert said.shell == "nft 'add element inet skiff pub4_any { tcp . 8080 : 172.17.0.2 . 80 }'"


def test_a_whole_firewall_is_counted() -> None:
    wall = Wall("br0", (IPv4Network("172.17.0.0/16"),))
    published = Published("udp", IPv4Address("10.0.0.1"), 53, IPv4Address("172.17.0.2"), 5353)
    said = shell.told(
        step("netlink.transaction", [], wire(*whole("skiff", ruleset((wall,), (published,)))), [])
    )
    assert said.title.startswith("firewall, one transaction: 3 tables, ")
    assert "add map inet skiff pub4_at { type ipv4_addr . inet_proto . inet_service : " in said.shell
    assert "add element inet skiff pub4_at { 10.0.0.1 . udp . 53 : 172.17.0.2 . 5353 }" in said.shell
    assert 'add element inet skiff bridges { "br0" }' in said.shell
    assert "172.17.0.0" in said.shell


def test_a_clone_says_where_its_child_is_born() -> None:
    def titled(flags: int) -> str:
        return shell.told(step("clone3", struct.pack("=Q", flags).hex(), 88)).title

    assert titled(0) == "clone a process"
    assert titled(processes.CLONE_INTO_CGROUP) == "clone a process in its control group"
    both = processes.CLONE_INTO_CGROUP | 0x20000
    assert titled(both) == "clone a process in its control group into new namespaces: mnt"


def test_titles_have_short_ids_and_commands_whole_ones() -> None:
    said = shell.told(step("os.mkdir", f"/run/skiff/{ID}", 0o700))
    assert said == ("directory /run/skiff/d6f5fd6a2f1a", f"mkdir -m 700 /run/skiff/{ID}")


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=4), max_leaves=8
)


@given(st.sampled_from([*shell._SAY, "unknown"]), st.lists(values, max_size=6))
def test_anything_is_told_somehow(name: str, args: list[Any]) -> None:
    said = shell.told(step(name, *args))
    assert isinstance(said.title, str)
    assert isinstance(said.shell, str)


@given(st.lists(st.tuples(st.integers(0, 40), st.just(0), st.binary(max_size=80).map(bytes.hex)), max_size=3))
def test_netlink_bodies_of_any_shape_are_told_somehow(messages: list[Any]) -> None:
    listed = [list(message) for message in messages]
    shell.told(step("netlink.request", *listed, NAMES))
    shell.told(step("netlink.request", *listed))
    shell.told(step("netlink.transaction", [], [[10 << 8 | kind, 0, body] for kind, _, body in listed], []))


def test_a_timeline_is_ordered_nested_and_named() -> None:
    found = trace.timeline(
        [
            step("os.execve", "/bin/true", ["true"], "", begin=8000, end=8000, pid=1),
            step("pivot_root", begin=7000, end=7500, pid=1),
            step("clone3", CLONE, begin=5000, end=6000, pid=30),
            step("task.create", begin=4000, end=9000, pid=10),
            step("prctl", 24, 1, 0, 0, 0, begin=7600, end=7610, pid=1),
            step("prctl", 24, 2, 0, 0, 0, begin=7620, end=7640, pid=1),
            step("request", "POST /containers/x/start", begin=1000, end=11000, pid=10),
            step("request", "POST /containers/x/wait", begin=500, end=20500, pid=10),
        ]
    )
    assert found.took == 20.0
    assert [(s.start, s.took, s.process, s.depth, s.title) for s in found.steps] == [
        (0.0, 20.0, "engine", 0, "POST /containers/x/wait"),
        (0.5, 10.0, "engine", 0, "POST /containers/x/start"),
        (3.5, 5.0, "engine", 1, "a monitor makes the container"),
        (4.5, 1.0, "monitor", 0, "clone a process into new namespaces: pid, mnt"),
        (6.5, 0.5, "init", 0, "the container's root becomes /"),
        (7.1, 0.04, "init", 0, "drop 2 capabilities from the bounding set"),
        (7.5, 0.0, "init", 0, "execve /bin/true"),
    ]


def test_an_empty_timeline() -> None:
    assert trace.timeline([]) == trace.Timeline(0, [])
