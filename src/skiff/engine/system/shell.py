"""What a step of a trace is called, and the shell command that does the same. Pure.

A step is a name and arguments as linux/watching.py takes them down; each name has a function here. There is
no command for some (`open_tree` is half of a bind mount): then the text is empty.
"""

import re
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from skiff.engine.system import shell_netlink
from skiff.linux import capabilities, mounts, namespaces
from skiff.linux.processes import CLONE_INTO_CGROUP
from skiff.linux.watching import Step


class Said(NamedTuple):
    title: str
    shell: str = ""


_OPTIONS: Final = {
    mounts.MS_RDONLY: "ro",
    mounts.MS_NOSUID: "nosuid",
    mounts.MS_NODEV: "nodev",
    mounts.MS_NOEXEC: "noexec",
    mounts.MS_REMOUNT: "remount",
    mounts.MS_NOATIME: "noatime",
    mounts.MS_RELATIME: "relatime",
    mounts.MS_STRICTATIME: "strictatime",
    mounts.MS_NOSYMFOLLOW: "nosymfollow",
}
_ATTRIBUTES: Final = {
    mounts.MOUNT_ATTR_RDONLY: "ro",
    mounts.MOUNT_ATTR_NOSUID: "nosuid",
    mounts.MOUNT_ATTR_NODEV: "nodev",
    mounts.MOUNT_ATTR_NOEXEC: "noexec",
    mounts.MOUNT_ATTR_NOSYMFOLLOW: "nosymfollow",
    mounts.MOUNT_ATTR_IDMAP: "idmap",
}
_PROPAGATION: Final = {
    mounts.MS_SHARED: "shared",
    mounts.MS_SLAVE: "slave",
    mounts.MS_PRIVATE: "private",
    mounts.MS_UNBINDABLE: "unbindable",
}
# RLIMIT_CPU = 0, RLIMIT_FSIZE = 1, …; <asm-generic/resource.h>
_LIMITS: Final = (
    *("cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks"),
    *("sigpending", "msgqueue", "nice", "rtprio", "rttime"),
)
_ID: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_DROP_BOUNDING, _AMBIENT = 24, 47
_PRCTL: Final = {
    4: ("dumpable: who may look into this process", ""),
    8: ("keep capabilities over setuid", "setpriv --keep-caps"),
    15: ("name of the process", ""),
    36: ("adopt orphans", ""),
    38: ("no new privileges", "setpriv --no-new-privs"),
    _AMBIENT: ("ambient capabilities: none", "setpriv --ambient-caps -all"),
}
_CREATE_WAYS: Final = {0x1000: "fifo", 0x2000: "c", 0x6000: "b"}


def quoted(text: object) -> str:
    """A word as a shell takes it."""
    word = str(text)
    if word and all(c.isalnum() or c in "@%+=:,./-_[]…" for c in word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def _words(*words: object) -> str:
    return " ".join(quoted(word) for word in words)


def _named(bits: int, names: dict[int, str]) -> list[str]:
    return [name for bit, name in names.items() if bits & bit]


def _mount(source: Any, target: str, kind: Any, flags: int = 0, data: Any = None) -> Said:
    recursive = "r" if flags & mounts.MS_REC else ""
    if ways := _named(flags, _PROPAGATION):
        return Said(
            f"propagation of {target}: {recursive}{ways[0]}",
            _words("mount", f"--make-{recursive}{ways[0]}", target),
        )
    if flags & mounts.MS_BIND:
        return Said(f"bind {source} on {target}", _words("mount", f"--{recursive}bind", source, target))
    options = ",".join([*_named(flags, _OPTIONS), *([str(data)] if data else [])])
    return Said(
        f"mount {kind} on {target}",
        _words("mount", "-t", kind, *(["-o", options] if options else []), source, target),
    )


def _attributes(tree: Any, path: Any = "", flags: Any = 0, packed: str = "", size: Any = 0) -> Said:
    set_, clear, propagation, _ = struct.unpack("=4Q", bytes.fromhex(packed).ljust(32, b"\0"))
    if ways := _named(propagation, _PROPAGATION):
        return Said(f"propagation of {tree}: {ways[0]}", _words("mount", f"--make-{ways[0]}", tree))
    what = "that copy" if tree == "/" else tree  # one that is attached nowhere yet
    changes = [*_named(set_, _ATTRIBUTES), *(f"no {name}" for name in _named(clear, _ATTRIBUTES))]
    options = ",".join(["remount", "bind", *_named(set_, _ATTRIBUTES)])
    return Said(f"attributes of {what}: {', '.join(changes)}", _words("mount", "-o", options, tree))


def _kinds(flags: int) -> list[str]:
    return [name for flag, name in namespaces.KINDS.values() if flags & flag]


def _unshare(kinds: list[str], *rest: str) -> str:
    long = {"mnt": "mount"}
    return _words("unshare", *(f"--{long.get(kind, kind)}" for kind in kinds), *rest)


def _clone(packed: str = "", *_: Any) -> Said:
    flags = int.from_bytes(bytes.fromhex(packed)[:8], "little")
    kinds = _kinds(flags)
    group = " in its control group" if flags & CLONE_INTO_CGROUP else ""
    if not kinds:
        return Said(f"clone a process{group}", "( … ) &")
    words = _unshare(kinds, "--fork", "…")
    return Said(f"clone a process{group} into new namespaces: {', '.join(kinds)}", words)


def _setns(namespace: Any, flags: int = 0) -> Said:
    kinds = _kinds(flags) or [str(namespace).partition(":")[0]]
    long = {"mnt": "mount"}
    words = [f"--{long.get(kind, kind)}" for kind in kinds]
    return Said(f"enter {', '.join(kinds)}: {namespace}", _words("nsenter", *words, "-t", "PID", "…"))


def _write(path: str, text: Any = "", *_: Any) -> Said:
    value = str(text).rstrip("\n")
    if path.endswith(("/tasks", "/cgroup.procs")):
        return Said(f"join control group {path.rpartition('/')[0]}", f"echo $$ > {quoted(path)}")
    return Said(f"{path.rpartition('/')[2]} = {value}", f"echo {quoted(value)} > {quoted(path)}")


def _mkdir(path: str, mode: Any = 0o777, *_: Any) -> Said:
    made = f"mkdir -m {mode:o} {quoted(path)}" if isinstance(mode, int) else f"mkdir {quoted(path)}"
    what = "control group" if path.startswith("/sys/fs/cgroup") else "directory"
    return Said(f"{what} {path}", made)


def _rmdir(path: str, *_: Any) -> Said:
    what = "control group" if path.startswith("/sys/fs/cgroup") else "directory"
    return Said(f"remove {what} {path}", _words("rmdir", path))


def _mknod(path: str, mode: int = 0, device: int = 0, *_: Any) -> Said:
    kind = _CREATE_WAYS.get(mode & 0o170000, "?")
    major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
    return Said(f"device {path}", f"mknod -m {mode & 0o7777:o} {quoted(path)} {kind} {major} {minor}")


def _limit(kind: int, values: Any) -> Said:
    name = _LIMITS[kind] if 0 <= kind < len(_LIMITS) else str(kind)
    soft, hard = ("unlimited" if value < 0 else str(value) for value in values)
    return Said(f"limit {name} {soft}:{hard}", f"prlimit --{name}={soft}:{hard}")


def _prctl(option: int, *rest: Any) -> Said:
    if option == _DROP_BOUNDING:
        names = [capabilities.NAMES[n].lower() for n in rest if n < len(capabilities.NAMES)]
        return Said(
            f"drop {len(names)} capabilities from the bounding set", f"capsh --drop={','.join(names)}"
        )
    title, shell = _PRCTL.get(option, (f"prctl {option}", ""))
    return Said(title, shell)


def _capset(header: Any, packed: str, *_: Any) -> Said:
    words = struct.unpack("6I", bytes.fromhex(packed))
    names = [name.lower() for name in capabilities.names(words[1] | words[4] << 32)]
    return Said(
        f"capabilities: {len(names)} permitted",
        f"capsh --caps={','.join(names)}+ep" if names else "capsh --caps=",
    )


def _seccomp(operation: Any = 1, flags: Any = 0, header: str = "", *_: Any) -> Said:
    count = int.from_bytes(bytes.fromhex(header)[:2], "little")
    return Said(f"load the system call filter: {count} instructions", "bwrap --seccomp 3 … 3< filter.bpf")


def _execve(path: str, words: Any, *_: Any) -> Said:
    return Said(f"execve {path}", f"exec {_words(*words)}")


def _netlink(*args: Any) -> Said:
    *messages, names = args  # the last: (number, name) of the links there are
    return Said(*shell_netlink.route([m for m in messages if isinstance(m, list)], dict(names)))


def _nft(begin: Any, messages: list[Any], *_: Any) -> Said:
    return Said(*shell_netlink.nft(messages))


def _owner(path: Any, uid: int, gid: int, *_: Any) -> Said:
    who = f"{'' if uid < 0 else uid}:{'' if gid < 0 else gid}"
    return Said(f"owner of {path}: {who}", _words("chown", who, path))


_SAY: Final[dict[str, Callable[..., Said]]] = {
    "mount": _mount,
    "umount2": lambda target, flags=0: Said(
        f"unmount {target}", _words("umount", *(["-l"] if flags & 2 else []), target)
    ),
    "open_tree": lambda place, path="", *_: Said(f"detached copy of the mount at {path or place}"),
    "move_mount": lambda tree, path, target, place="", *_: Said(
        f"attach it at {place or target}", f"mount --bind … {quoted(place or target)}"
    ),
    "fsopen": lambda kind, *_: Said(f"new file system {kind}"),
    "fsconfig": lambda fs, command, key=None, value=None, *_: Said(
        f"its option {key}{f'={value}' if value is not None else ''}" if key else "make it"
    ),
    "fsmount": lambda *_: Said("a detached mount of it"),
    "mount_setattr": _attributes,
    "pivot_root": lambda *_: Said("the container's root becomes /", "pivot_root . . && umount -l ."),
    "clone3": _clone,
    "unshare": lambda flags: Said(
        f"new namespaces: {', '.join(_kinds(flags))}", _unshare(_kinds(flags), "…")
    ),
    "setns": _setns,
    "sethostname": lambda name, *_: Said(f"host name {name}", _words("hostname", name)),
    "setdomainname": lambda name, *_: Said(f"domain name {name}", _words("domainname", name)),
    "seccomp": _seccomp,
    "keyctl": lambda *_: Said("new session keyring", "keyctl new_session"),
    "pidfd_send_signal": lambda fd, number, *_: Said(f"signal {number}", f"kill -{number} PID"),
    "prctl": _prctl,
    "capset": _capset,
    "setrlimit": _limit,
    "os.mkdir": _mkdir,
    "os.rmdir": _rmdir,
    "os.write": _write,
    "os.mknod": _mknod,
    "os.symlink": lambda to, path, *_: Said(f"link {path} → {to}", _words("ln", "-s", to, path)),
    "os.unlink": lambda path, *_: Said(f"remove {path}", _words("rm", path)),
    "os.rename": lambda old, new, *_: Said(f"rename {old} to {new}", _words("mv", old, new)),
    "os.open": lambda path, *_: Said(f"file {path}", f": > {quoted(path)}"),
    "os.chown": _owner,
    "os.fchown": _owner,
    "os.chdir": lambda path: Said(f"change to {path}", _words("cd", path)),
    "os.fchdir": lambda path: Said(f"change to {path}", _words("cd", path)),
    "os.setresuid": lambda uid, *_: Said(f"user {uid}", f"setpriv --reuid {uid} …"),
    "os.setresgid": lambda gid, *_: Said(f"group {gid}", f"setpriv --regid {gid} …"),
    "os.setgroups": lambda groups: Said(
        f"groups {', '.join(map(str, groups)) or 'none'}",
        f"setpriv --groups {','.join(map(str, groups))} …" if groups else "setpriv --clear-groups …",
    ),
    "os.setsid": lambda: Said("new session", "setsid …"),
    "os.fork": lambda: Said("fork"),
    "os.posix_spawn": lambda path, words, *_: Said(f"start {path}", _words(*words)),
    "os.execve": _execve,
    "netlink.request": _netlink,
    "netlink.transaction": _nft,
    "request": lambda title: Said(title),
    "exit": lambda id: Said(f"what follows the exit of {id[:12]}"),
    "state.put": lambda id, record="": Said(f"store {record} {str(id)[:12]}"),
    "state.delete": lambda id: Said(f"forget {str(id)[:12]}"),
    "snapshot.prepare": lambda key, *_: Said(f"writable layer for {str(key)[:12]}", "mkdir fs work"),
    "snapshot.remove": lambda key, *_: Said(f"remove layer {str(key)[:12]}"),
    "layer.extract": lambda *_: Said("unpack a layer", "tar -x"),
    "layer.commit": lambda draft, name="", *_: Said(f"keep it as {str(name)[:19]}"),
    "blob.fetch": lambda *_: Said("fetch a blob", "curl -O …"),
    "sandbox.open": lambda *_: Said("network of the container"),
    "sandbox.close": lambda *_: Said("take the container off its networks"),
    "bundle.write": lambda run, id, *_: Said(f"config.json of {str(id)[:12]}", "runc spec"),
    "bundle.remove": lambda run, id, *_: Said(f"remove the bundle of {str(id)[:12]}"),
    "task.create": lambda *_: Said("a monitor makes the container", "runc create …"),
    "task.ask": lambda request, *_: Said(f"ask the monitor: {request}"),
}


def told(step: Step) -> Said:
    """Any step: one that we have no words for is told as it is."""
    say = _SAY.get(step.name)
    if say is not None:
        try:
            said = say(*step.args)
            return Said(_ID.sub(r"\1", said.title), said.shell)
        except (TypeError, ValueError, LookupError, AttributeError, struct.error):
            pass  # arguments of another shape than known: the name and they will do
    return Said(f"{step.name}({', '.join(str(value)[:80] for value in step.args)})")


def merged(steps: Iterable[Step]) -> list[Step]:
    """Capabilities that are dropped one by one are one step."""
    found: list[Step] = []
    for step in steps:
        last = found[-1] if found else None
        if (
            last is not None
            and step.name == last.name == "prctl"
            and step.args[0] == last.args[0] == _DROP_BOUNDING
            and step.pid == last.pid
        ):
            found[-1] = Step(
                last.name, [*last.args, step.args[1]], last.begin, step.end, step.pid, step.error
            )
        elif step.name == "prctl" and step.args[0] == _DROP_BOUNDING:
            found.append(Step(step.name, step.args[:2], step.begin, step.end, step.pid, step.error))
        else:
            found.append(step)
    return found


def processes(steps: Iterable[Step]) -> dict[int, str]:
    """Pid → what the process is: engine, monitor, init (makes the root), exec."""
    names: dict[int, str] = {}
    for step in steps:
        if step.name in ("request", "exit"):
            names[step.pid] = "engine"
        elif step.name in ("clone3", "pivot_root"):
            names.setdefault(step.pid, "monitor" if step.name == "clone3" else "init")
        elif step.name == "os.execve":
            names.setdefault(step.pid, "exec")
    return {step.pid: names.get(step.pid, "monitor") for step in steps}
