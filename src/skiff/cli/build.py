"""skiff build: a context goes to the engine, and what happens there is shown."""

from __future__ import annotations

import os
import sys

from skiff.cli import human
from skiff.cli.flags import Command
from skiff.cli.progress import Refused, follow
from skiff.errors import InvalidParameter, NotImplementedHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_REMOTE = ("http://", "https://", "git://", "git@", "github.com/", "ssh://")


def build(session: Session, asked: Parsed) -> int:
    _refuse(asked)
    query = _query(session, asked)
    body = _body(asked, query)
    headers = _headers(session, asked)
    quiet = asked["quiet"]
    response = session.engine().connection.request(
        "POST", "/build", query=query, body=body, headers={"Content-Type": "application/x-tar", **headers}
    )
    messages = _kept(response.lines(), asked["progress"])
    try:
        extras = _live(messages) if _is_live(asked) else follow(_spoken(messages, quiet=quiet))
    except Refused as error:
        session.err(str(error))
        return 1
    ids = [extra["aux"]["ID"] for extra in extras if "ID" in extra["aux"]]
    id = ids[-1] if ids else ""
    if asked["iidfile"]:
        _write(asked["iidfile"], id)
    if asked["metadata-file"]:
        _metadata(asked, id)
    return 0


def _refuse(asked: Parsed) -> None:
    for name in ("output", "cache-to", "ssh", "compress"):
        if asked[name]:
            raise NotImplementedHere(f"skiff build does not do --{name} yet")
    for source in asked["cache-from"]:
        if "type=" in source:
            raise NotImplementedHere(f"skiff build takes images as --cache-from only, not {source}")
    if asked["progress"] not in ("auto", "plain", "tty", "quiet", "rawjson"):
        raise InvalidParameter(f"invalid progress mode {asked['progress']}")


def _pairs(values: Iterable[str], env: Any) -> Json:
    """`A=b`; a bare `A` takes the value of this environment, and nothing when there is none."""
    found: Json = {}
    for text in values:
        name, equals, value = text.partition("=")
        found[name] = value if equals else (env(name) or None)
    return found


def _query(session: Session, asked: Parsed) -> Json:
    from skiff.client import json_text

    def encoded(value: object) -> str | None:
        return json_text.encode(value).decode() if value else None

    labels = {name: value or "" for name, value in _pairs(asked["label"], session.env).items()}
    contexts = dict(text.partition("=")[::2] for text in asked["build-context"])
    for name, value in contexts.items():
        if not value.startswith("docker-image://"):
            raise NotImplementedHere(f"--build-context {name}: only docker-image://… is done")
    contexts = {name: value.removeprefix("docker-image://") for name, value in contexts.items()}
    return {
        "t": asked["tag"] or None,
        "q": asked["quiet"] or None,
        "nocache": asked["no-cache"] or None,
        "nocachefilter": asked["no-cache-filter"] or None,
        "cachefrom": encoded(asked["cache-from"]),
        "pull": asked["pull"] or None,
        "rm": asked["rm"],
        "forcerm": asked["force-rm"] or None,
        "squash": asked["squash"] or None,
        "target": asked["target"] or None,
        "platform": asked["platform"] or None,
        "networkmode": asked["network"] or None,
        "extrahosts": asked["add-host"] or None,
        "buildargs": encoded(_pairs(asked["build-arg"], session.env)),
        "labels": encoded(labels),
        "memory": asked["memory"] or None,
        "memswap": asked["memory-swap"] or None,
        "shmsize": asked["shm-size"] or None,
        "cpushares": asked["cpu-shares"] or None,
        "cpuperiod": asked["cpu-period"] or None,
        "cpuquota": asked["cpu-quota"] or None,
        "cpusetcpus": asked["cpuset-cpus"] or None,
        "cpusetmems": asked["cpuset-mems"] or None,
        "cgroupparent": asked["cgroup-parent"] or None,
        "ulimits": encoded(asked["ulimit"]),
        "securityopt": encoded(asked["security-opt"]),
        "isolation": asked["isolation"] or None,
        "contexts": encoded(contexts),
        "why": asked["why"] or None,
        "verify": asked["verify"] or None,
        "version": "1",
    }


def _body(asked: Parsed, query: Json) -> Iterator[bytes] | None:
    """The context's tar, and `dockerfile` or `remote` in the query."""
    from skiff.client.build_context import Context

    path, file = asked.args[0], asked["file"]
    if path.startswith(_REMOTE):
        query["remote"] = path
        query["dockerfile"] = file or None
        return None
    if path == "-":
        if file == "-":
            raise InvalidParameter("invalid argument: can't use stdin for both build context and dockerfile")
        return _stdin(query, file)
    if not os.path.isdir(path):
        raise InvalidParameter(f"unable to prepare context: path {path!r} not found")
    root = os.path.realpath(path)
    if file == "-":
        name = ".dockerfile.stdin"
        context = Context(root, "", {name: sys.stdin.buffer.read()})
        query["dockerfile"] = name
        return _sent(context, quiet=asked["quiet"])
    place = os.path.realpath(file or os.path.join(root, "Dockerfile"))
    if not file and not os.path.exists(place) and os.path.exists(os.path.join(root, "dockerfile")):
        place = os.path.join(root, "dockerfile")
    if not os.path.isfile(place):
        raise InvalidParameter(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
            f"lstat {place}: no such file or directory"
        )
    relative = os.path.relpath(place, root)
    if relative.startswith("../"):
        extra = {".dockerfile.outside": _read(place)}
        if os.path.isfile(f"{place}.dockerignore"):
            extra[".dockerignore"] = _read(f"{place}.dockerignore")
        query["dockerfile"] = ".dockerfile.outside"
        return _sent(Context(root, "", extra), quiet=asked["quiet"])
    query["dockerfile"] = relative
    return _sent(Context(root, relative), quiet=asked["quiet"])


def _stdin(query: Json, file: str) -> Iterator[bytes]:
    """An archive as it comes, or a lone Dockerfile as an archive."""
    from skiff.client.build_context import BLOCK, header

    head = sys.stdin.buffer.read(BLOCK)
    if head[257:262] == b"ustar" or head.startswith(_ARCHIVES):
        query["dockerfile"] = file or None

        def passed() -> Iterator[bytes]:
            yield head
            while data := sys.stdin.buffer.read(1 << 16):
                yield data

        return passed()
    data = head + sys.stdin.buffer.read()
    query["dockerfile"] = None
    whole = header(b"0", b"Dockerfile", 0o644, len(data), 0) + data + bytes(-len(data) % BLOCK)
    return iter([whole + bytes(2 * BLOCK)])


def _sent(context: Any, *, quiet: bool) -> Iterator[bytes]:
    yield from context.tar()
    if not quiet:
        print(f"Sending build context to Docker daemon  {human.size(context.size)}", flush=True)


def _headers(session: Session, asked: Parsed) -> dict[str, str]:
    from skiff.client.credentials import credentials, encoded

    headers = {}
    servers = session.config().values.get("auths") or {}
    known = {server: credentials(session.config(), server) for server in servers}
    if known:
        headers["X-Registry-Config"] = encoded(known)
    secrets = dict(_secret(session, text) for text in asked["secret"])
    if secrets:
        headers["X-Skiff-Build-Secrets"] = encoded(secrets)
    return headers


def _secret(session: Session, text: str) -> tuple[str, str]:
    """`id=token,src=file`, `id=token,env=TOKEN`, or an id that names both."""
    from binascii import b2a_base64

    fields = dict(part.partition("=")[::2] for part in text.split(","))
    id = fields.get("id", "")
    if not id:
        raise InvalidParameter(f"invalid secret {text!r}: id is missing")
    path = fields.get("src") or fields.get("source")
    name = fields.get("env") or ("" if path else id)
    if name and session.env(name):
        value = session.env(name).encode("utf-8", "surrogateescape")
    elif path or fields.get("type") == "file":
        value = _read(path or id)
    else:
        raise InvalidParameter(f"secret {id}: the variable {name} is not set")
    return id, b2a_base64(value, newline=False).decode()


def _kept(messages: Iterable[Json], mode: str) -> Iterator[Json]:
    """The messages; with --progress=rawjson each is printed as it is instead."""
    from skiff.client import json_text

    for message in messages:
        if mode == "rawjson" and "error" not in message:
            print(json_text.encode(message).decode(), flush=True)
            if "aux" in message:
                yield message
            continue
        yield message


def _spoken(messages: Iterable[Json], *, quiet: bool) -> Iterator[Json]:
    for message in messages:
        if quiet and "aux" not in message and "error" not in message and "stream" not in message:
            continue
        yield message


def _is_live(asked: Parsed) -> bool:
    if asked["quiet"] or asked["progress"] in ("plain", "rawjson", "quiet"):
        return False
    return asked["progress"] == "tty" or sys.stdout.isatty()


def _live(messages: Iterable[Json]) -> list[Json]:
    """A line for each step, the last words of the one that runs below it. Raises Refused."""
    import time

    extras: list[Json] = []
    title, started, said = "", time.monotonic(), ""
    log: list[str] = []

    def settle(mark: str) -> None:
        if title:
            sys.stdout.write(f"\r\x1b[2K{mark} {title}  {time.monotonic() - started:.1f}s\n")

    for message in messages:
        if "aux" in message:
            extras.append(message)
        failure = message.get("errorDetail") or message.get("error")
        if failure:
            settle("✗")
            sys.stdout.write("".join(log[-20:]))
            sys.stdout.flush()
            raise Refused(str(failure["message"] if isinstance(failure, dict) else failure))
        text = message.get("stream") or ""
        if text.startswith("Step "):
            settle("✓" if said != "cached" else "•")
            title, started, said, log = text.strip(), time.monotonic(), "", []
        elif text.startswith(" ---> Using cache"):
            said = "cached"
        elif text.startswith(" ---> Why") or text.startswith(("Success", "Verify", "[Warning]")):
            settle("✓" if said != "cached" else "•")
            title = ""
            sys.stdout.write(text)
        elif text.strip() and not text.startswith(" ---> "):
            log.append(text)
        shown = (log[-1].strip().splitlines() or [""])[-1] if log else ""
        if title:
            sys.stdout.write(f"\r\x1b[2K… {f'{title}  {shown}'[: _columns() - 4]}")
        sys.stdout.flush()
    return extras


def _columns() -> int:
    try:
        return os.get_terminal_size(1).columns or 80  # 0: a terminal that does not know
    except OSError:
        return 80


def _metadata(asked: Parsed, id: str) -> None:
    from skiff.client import json_text

    found = {"containerimage.config.digest": id, "containerimage.digest": id}
    if asked["tag"]:
        found["image.name"] = ",".join(asked["tag"])
    _write(asked["metadata-file"], json_text.encode(found).decode())


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from error


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _ulimit(text: str) -> Json:
    from skiff.cli.run_values import parse_ulimit

    return parse_ulimit(text)


def _swap(text: str) -> int:
    from skiff.cli.flags import parse_bytes

    return -1 if text == "-1" else parse_bytes(text)


FLAGS = (
    ("add-host", "", "list", (), "Add a custom host-to-IP mapping (`host:ip`)"),
    ("build-arg", "", "list", (), "Set build-time variables"),
    ("build-context", "", "list", (), "Additional build contexts (`name=docker-image://image`)"),
    ("cache-from", "", "csv", (), "Images to consider as cache sources"),
    ("cache-to", "", "list", (), "Cache export destinations"),
    ("cgroup-parent", "", "string", "", "Set the parent cgroup for the `RUN` instructions during build"),
    ("compress", "", "bool", False, "Compress the build context using gzip"),
    ("cpu-period", "", "int", 0, "Limit the CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", 0, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-shares", "c", "int", 0, "CPU shares (relative weight)"),
    ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
    ("disable-content-trust", "", "bool", True, "Skip image verification"),
    ("file", "f", "string", "", 'Name of the Dockerfile (Default is "PATH/Dockerfile")'),
    ("force-rm", "", "bool", False, "Always remove intermediate containers"),
    ("iidfile", "", "string", "", "Write the image ID to the file"),
    ("isolation", "", "string", "", "Container isolation technology"),
    ("label", "", "list", (), "Set metadata for an image"),
    ("memory", "m", "bytes", 0, "Memory limit"),
    ("memory-swap", "", "swap", 0, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    ("metadata-file", "", "string", "", "Write build result metadata to a file"),
    ("network", "", "string", "default", "Set the networking mode for the RUN instructions during build"),
    ("no-cache", "", "bool", False, "Do not use cache when building the image"),
    ("no-cache-filter", "", "csv", (), "Do not cache specified stages"),
    ("output", "o", "list", (), "Output destination (format: `type=local,dest=path`)"),
    ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
    ("progress", "", "string", "auto", "Set type of progress output (`auto`, `plain`, `tty`, `rawjson`)"),
    ("pull", "", "bool", False, "Always attempt to pull a newer version of the image"),
    ("quiet", "q", "bool", False, "Suppress the build output and print image ID on success"),
    ("rm", "", "bool", True, "Remove intermediate containers after a successful build"),
    ("secret", "", "list", (), "Secret to expose to the build (format: `id=mysecret[,src=/local/secret]`)"),
    ("security-opt", "", "csv", (), "Security options"),
    ("shm-size", "", "bytes", 0, 'Size of "/dev/shm"'),
    ("squash", "", "bool", False, "Squash newly built layers into a single new layer"),
    ("ssh", "", "list", (), "SSH agent socket or keys to expose to the build"),
    ("tag", "t", "list", (), 'Name and optionally a tag in the "name:tag" format'),
    ("target", "", "string", "", "Set the target build stage to build."),
    ("ulimit", "", "ulimit", (), "Ulimit options"),
    ("verify", "", "bool", False, "Build twice and show what differs"),
    ("why", "", "bool", False, "Say why a step runs again"),
)

COMMANDS = {
    "build": Command(
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        build,
        FLAGS,
        least=1,
        most=1,
        kinds={"ulimit": _ulimit, "swap": _swap},
        aliases=("image build", "build", "builder build"),
    ),
}
