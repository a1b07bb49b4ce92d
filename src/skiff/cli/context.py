"""skiff context create, export, import, inspect, ls, rm, show, update, use: engines by name."""

from __future__ import annotations

import posix
import sys

from skiff.cli.flags import Command, parse_csv
from skiff.cli.human import ellipsis
from skiff.cli.inspect import show
from skiff.cli.table import FORMAT, FORMAT_ONE, Listing, render
from skiff.client.contexts import DEFAULT, LARGEST, TLS_FILES, Context, Store, exported, imported, made
from skiff.client.endpoint import Endpoint
from skiff.client.target import active_context, default_context
from skiff.errors import InvalidParameter, NotFound, SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

LONGEST_ERROR = 45
CURRENT = "Current DOCKER_HOST based configuration"
IN_MEMORY = "<IN MEMORY>"
ENDPOINT_KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")
OVERRIDDEN = (
    "Warning: DOCKER_HOST environment variable overrides the active context. To use {}, either set the "
    "global --context flag, or unset DOCKER_HOST environment variable."
)


def _store(session: Session) -> Store:
    return Store(session.config().folder)


def _active(session: Session) -> str:
    return active_context(session.top, session.env, session.config)


def _read(session: Session, name: str) -> Context:
    """A stored context, or the one made of the environment. Raises NotFound, InvalidParameter."""
    if name != DEFAULT:
        return _store(session).read(name)
    endpoint = default_context(session.top, session.env, session.config)
    verify = endpoint.tls is None or endpoint.tls.verify
    context = made(DEFAULT, "", endpoint.url, skip_verify=not verify)
    if endpoint.tls is not None:
        paths = (endpoint.tls.ca, endpoint.tls.cert, endpoint.tls.key)
        context.tls = {file: _pem(path) for file, path in zip(TLS_FILES, paths, strict=True) if path}
    return context


def _pem(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST)
    except OSError as error:
        reason = f"open {path}: {(error.strerror or '').lower()}"
        raise InvalidParameter(f"unable to create docker endpoint config: {reason}") from None
    if b"-----BEGIN " in data:
        return data
    raise InvalidParameter(
        "unable to create docker endpoint config: invalid docker endpoint options: "
        f"failed to retrieve context tls info: {path} seems invalid"
    )


def parse_endpoint(text: str) -> list[tuple[str, str]]:
    """host=tcp://h:1,ca=file → pairs. ValueError."""
    pairs = []
    for field in parse_csv(text):
        key, equals, value = field.partition("=")
        if not equals:
            raise ValueError(f"{field} must be formatted as key=value")
        pairs.append((key, value))
    return pairs


def _endpoint(session: Session, asked: dict[str, str], context: Context) -> None:
    """Put what `--docker` says into the context. Raises InvalidParameter, NotFound."""
    wrong = "unable to create docker endpoint config: "
    for key in asked:
        if key not in ENDPOINT_KEYS:
            raise InvalidParameter(f"{wrong}unrecognized config key: {key}")
    endpoints = context.meta.setdefault("Endpoints", {})
    if "from" in asked:
        try:
            other = _read(session, asked["from"])
        except NotFound as error:
            raise NotFound(f"{wrong}{error}") from None
        endpoints["docker"], context.tls = other.docker, other.tls
        return
    host = asked.get("host", "")
    if host and "://" not in host:
        raise InvalidParameter(
            f"{wrong}unable to apply docker endpoint options: unable to parse docker host `{host}`"
        )
    try:
        if not host:
            raise InvalidParameter("no host given")
        Endpoint(host)
    except InvalidParameter as error:
        raise InvalidParameter(f"{wrong}invalid docker endpoint options: {error}") from None
    skip = asked.get("skip-tls-verify", "false").lower()
    if skip not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidParameter(f'{wrong}skip-tls-verify: parsing "{skip}": invalid syntax')
    endpoints["docker"] = {"Host": host, "SkipTLSVerify": skip[0] in "t1"}
    context.tls = {file: _pem(asked[file[:-4]]) for file in TLS_FILES if file[:-4] in asked}


def create(session: Session, asked: Parsed) -> int:
    store, name = _store(session), asked.args[0]
    if asked["docker"] and asked["from"]:
        raise InvalidParameter("cannot use --docker flag when --from is set")
    if asked["docker"]:
        context = made(name, asked["description"], "")
        _endpoint(session, dict(asked["docker"]), context)
    else:
        source = asked["from"] or _active(session)
        other = _read(session, source)
        description = other.description or (CURRENT if source == DEFAULT else "")
        if "description" in asked.changed:
            description = asked["description"]
        context = Context(other.meta | {"Name": name}, other.tls)
        context.meta["Metadata"] = _described(other, description)
    store.create(context)
    print(name)
    session.err(f'Successfully created context "{name}"')
    return 0


def _described(context: Context, description: str) -> Json:
    rest = {k: v for k, v in (context.meta.get("Metadata") or {}).items() if k != "Description"}
    return rest | ({"Description": description} if description else {})


def update(session: Session, asked: Parsed) -> int:
    store, name = _store(session), asked.args[0]
    if name == DEFAULT:
        raise InvalidParameter('"default" is a reserved context name')
    context = store.read(name)
    if "description" in asked.changed:
        context.meta["Metadata"] = _described(context, asked["description"])
    if asked["docker"]:
        _endpoint(session, dict(asked["docker"]), context)
    store.write(context)
    print(name)
    session.err(f'Successfully updated context "{name}"')
    return 0


def use(session: Session, asked: Parsed) -> int:
    name = asked.args[0]
    if name != DEFAULT:
        _store(session).read(name)
    config = session.config()
    config.values.pop("currentContext", None)
    if name != DEFAULT:
        config.values["currentContext"] = name
    config.save()
    print(name)
    session.err(f'Current context is now "{name}"')
    if name != DEFAULT and session.env("DOCKER_HOST"):
        session.err(OVERRIDDEN.format(f'"{name}"'))
    return 0


def show_current(session: Session, asked: Parsed) -> int:
    print(_active(session))
    return 0


def rm(session: Session, asked: Parsed) -> int:
    store = _store(session)
    configured, active = session.config().current_context, _active(session)
    failed = False
    for name in asked.args:
        if name == DEFAULT:
            trouble = 'context "default" cannot be removed'
        elif not store.has(name) and not asked["force"]:
            trouble = f'context "{name}" does not exist'
        elif name == active and not asked["force"]:
            trouble = f'context "{name}" is in use, set -f flag to force remove'
        else:
            store.remove(name)
            if name == configured:
                del session.config().values["currentContext"]
                session.config().save()
            print(name)
            continue
        session.err(trouble)
        failed = True
    return 1 if failed else 0


def inspect(session: Session, asked: Parsed) -> int:
    store = _store(session)

    def find(name: str) -> Json:
        context = _read(session, name)
        in_memory = name == DEFAULT
        return {
            "Name": name,
            "Metadata": context.meta.get("Metadata") or {},
            "Endpoints": context.meta.get("Endpoints") or {},
            "TLSMaterial": {"docker": list(context.tls)} if context.tls else {},
            "Storage": {
                "MetadataPath": IN_MEMORY if in_memory else store.meta_path(name),
                "TLSPath": IN_MEMORY if in_memory else store.tls_path(name),
            },
        }

    names = asked.args or [_active(session)]
    return show(session, names, asked["format"], find, kind="context.contextWithTLSListing")


def ls(session: Session, asked: Parsed) -> int:
    current = _active(session)
    names = [DEFAULT, *(name for name in _store(session).names() if name != DEFAULT)]
    rows: list[Json] = []
    for name in sorted({*names, current}):
        row: Json = {"Name": name, "Current": name == current, "Description": "", "Host": "", "Error": ""}
        try:
            context = _read(session, name)
        except SkiffError as error:
            row["Error"] = str(error)
        else:
            row["Host"] = context.docker.get("Host", "")
            row["Description"] = CURRENT if name == DEFAULT else context.description
        rows.append(row)
    form, quiet = asked["format"], asked["quiet"]
    is_table = form in ("", "table") and not quiet
    sys.stdout.write(render(listing(is_table=is_table), rows, form="" if quiet else form, quiet=quiet))
    if session.env("DOCKER_HOST"):
        session.err(OVERRIDDEN.format("a context"))
    return 0


def listing(*, is_table: bool) -> Listing:
    """The table marks the current one beside its name; a template has a field for it."""

    def name(row: Json) -> str:
        return f"{row['Name']} *" if row["Current"] and is_table else str(row["Name"])

    fields = {
        "Current": ("", lambda row: row["Current"]),
        "Description": ("DESCRIPTION", lambda row: row["Description"]),
        "DockerEndpoint": ("DOCKER ENDPOINT", lambda row: row["Host"]),
        "Error": ("ERROR", lambda row: ellipsis(row["Error"], LONGEST_ERROR)),
        "Name": ("NAME", name),
    }
    columns = ("Name", "Description", "DockerEndpoint", "Error")
    return Listing("*formatter.clientContextContext", fields, columns, quiet="Name")


def export(session: Session, asked: Parsed) -> int:
    name = asked.args[0]
    path = asked.args[1] if len(asked.args) > 1 else f"{name}.dockercontext"
    data = exported(_read(session, name))
    if path == "-":
        if sys.stdout.isatty():
            raise InvalidParameter("cowardly refusing to export to a terminal, specify a file path")
        sys.stdout.buffer.write(data)
        return 0
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from None
    session.err(f'Written file "{path}"')
    return 0


def import_context(session: Session, asked: Parsed) -> int:
    name, path = asked.args
    try:
        if path == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(LARGEST + 1)
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from None
    if len(data) > LARGEST:
        raise InvalidParameter(f"invalid context: larger than {LARGEST >> 20} MiB")
    _store(session).create(imported(data, name))
    print(name)
    session.err(f'Successfully imported context "{name}"')
    return 0


_ENDPOINT_HELP = """

Docker endpoint config:

NAME                DESCRIPTION
from                Copy named context's Docker endpoint configuration
host                Docker endpoint on which to connect
ca                  Trust certs signed only by this CA
cert                Path to TLS certificate file
key                 Path to TLS key file
skip-tls-verify     Skip TLS certificate validation

Example:

$ skiff context {} my-context --description "some description" --docker \
"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\""""
_DESCRIPTION = ("description", "", "string", "", "Description of the context")
_DOCKER = ("docker", "", "stringToString", (), "set the docker endpoint")
COMMANDS = {
    "context create": Command(
        "[OPTIONS] CONTEXT",
        "Create a context" + _ENDPOINT_HELP.format("create"),
        create,
        (
            _DESCRIPTION,
            _DOCKER,
            ("from", "", "string", "", "create context from a named context"),
        ),
        least=1,
        most=1,
        kinds={"--docker": parse_endpoint},
    ),
    "context export": Command(
        "[OPTIONS] CONTEXT [FILE|-]",
        "Export a context to a tar archive FILE or a tar stream on STDOUT.",
        export,
        least=1,
        most=2,
    ),
    "context import": Command(
        "CONTEXT FILE|-", "Import a context from a tar or zip file", import_context, least=2, most=2
    ),
    "context inspect": Command(
        "[OPTIONS] [CONTEXT] [CONTEXT...]",
        "Display detailed information on one or more contexts",
        inspect,
        (FORMAT_ONE,),
    ),
    "context ls": Command(
        "[OPTIONS]",
        "List contexts",
        ls,
        (FORMAT, ("quiet", "q", "bool", False, "Only show context names")),
        most=0,
        aliases=("context ls", "context list"),
    ),
    "context rm": Command(
        "CONTEXT [CONTEXT...]",
        "Remove one or more contexts",
        rm,
        (("force", "f", "bool", False, "Force the removal of a context in use"),),
        least=1,
        aliases=("context rm", "context remove"),
    ),
    "context show": Command("", "Print the name of the current context", show_current, most=0),
    "context update": Command(
        "[OPTIONS] CONTEXT",
        "Update a context" + _ENDPOINT_HELP.format("update"),
        update,
        (_DESCRIPTION, _DOCKER),
        least=1,
        most=1,
        kinds={"--docker": parse_endpoint},
    ),
    "context use": Command("CONTEXT", "Set the current docker context", use, least=1, most=1),
}
