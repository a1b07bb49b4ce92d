"""Registries: search, manifest inspect; serve-registry makes one of this machine's images."""

from __future__ import annotations

import sys

from skiff.cli import human
from skiff.cli.filters import FILTER, KINDS, wire
from skiff.cli.flags import Command
from skiff.cli.table import Listing, render
from skiff.client import json_text
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

LISTEN = "127.0.0.1:5000"
NOT_AUTOMATED = (
    'WARNING: the "is-automated" filter is deprecated, and searching for "is-automated={}" will not yield any'
    " results in future."
)
OPEN = (
    "WARNING! Whoever can reach {} may {} this machine's images: "
    "--htpasswd FILE asks for a password, --read-only refuses writing."
)
PLAIN = "WARNING! Passwords cross the network to {} as plain text: --tls-cert and --tls-key prevent it."


def serve_registry(session: Session, asked: Parsed) -> int:
    """Until interrupted; each request is a line."""
    htpasswd = _read(asked["htpasswd"]) if asked["htpasswd"] else ""
    if asked["htpasswd"] and not htpasswd.strip():
        raise InvalidParameter(f"{asked['htpasswd']} names nobody: make it with htpasswd -B -c")
    if bool(asked["tls-cert"]) != bool(asked["tls-key"]):
        raise InvalidParameter("--tls-cert and --tls-key go together: a certificate, and the key to it")
    certificate, key = (_read(asked[one]) if asked[one] else "" for one in ("tls-cert", "tls-key"))
    seen = session.engine().serve_registry(
        asked["listen"], read_only=asked["read-only"], htpasswd=htpasswd, certificate=certificate, key=key
    )
    for event in seen:
        if "Address" in event:
            address = event["Address"]
            print(f"Registry listens on {address}{' with TLS' if certificate else ''}", flush=True)
            if address.startswith(("127.", "[::1]")):
                continue
            if not htpasswd:
                session.err(OPEN.format(address, "read" if asked["read-only"] else "read and change"))
            elif not certificate:
                session.err(PLAIN.format(address))
        else:
            user = event["User"] or "-"
            print(
                event["Client"], user, event["Method"], event["Path"], event["Status"],
                f"{event['Seconds']:.3f}s", flush=True,
            )  # fmt: skip
    raise InvalidParameter("the engine has left, and the registry with it")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", "") or str(error)).lower()
        raise InvalidParameter(f"open {path}: {reason}") from error


def search(session: Session, asked: Parsed) -> int:
    from skiff.client.credentials import auth_header

    term = asked.args[0]
    filters = wire(asked["filter"])
    if "is-automated" in filters:
        session.err(NOT_AUTOMATED.format(filters["is-automated"][0]))
    limit = asked["limit"] or None
    found = session.engine().search(
        term, filters=filters, limit=limit, auth=auth_header(session.config(), term) or "e30="
    )
    sys.stdout.write(
        render(_hits(truncate=not asked["no-trunc"], form=asked["format"]), found, form=asked["format"])
    )
    return 0


def _hits(*, truncate: bool, form: str) -> Listing:
    as_json = form == "json" or "{{json" in form.replace(" ", "")

    def description(hit: Json) -> str:
        text = hit["description"].replace("\n", " ").replace("\r", " ")
        return human.ellipsis(text, 45) if truncate else str(text)

    def official(hit: Json) -> str:
        if as_json:
            return "true" if hit["is_official"] else "false"
        return "[OK]" if hit["is_official"] else ""

    fields = {
        "Name": ("NAME", lambda hit: hit["name"]),
        "Description": ("DESCRIPTION", description),
        "StarCount": ("STARS", lambda hit: str(hit["star_count"])),
        "IsOfficial": ("OFFICIAL", official),
    }
    return Listing("*formatter.searchContext", fields, ("Name", "Description", "StarCount", "IsOfficial"))


def inspect_manifest(session: Session, asked: Parsed) -> int:
    """As docker prints it: a manifest as it came, indented by tabs; an index in its own order, by spaces."""
    from skiff.client.credentials import auth_header
    from skiff.oci.reference import parse

    name = asked.args[-1]
    reference = parse(name).tagged()
    try:
        auth = auth_header(session.config(), str(reference)) or "e30="
        told = session.engine().manifests(name, auth=auth, insecure=asked["insecure"])
    except EngineError as error:
        if error.status == 404:
            raise NotFound(f"no such manifest: {reference.familiar}") from error
        raise InvalidParameter(error.message) from error
    if asked["verbose"]:
        verbose = [_verbosely(one) for one in (told[1:] or told)]
        print(_indented(verbose if told[1:] else verbose[0], "\t"))
    elif told[1:]:
        print(_indented(_index(_document(told[0])), "   "))
    else:
        print(_indented(_document(told[0]), "\t"))
    return 0


def _document(told: Json) -> Json:
    import binascii

    found: Json = json_text.decode(binascii.a2b_base64(told["Raw"]))
    return found


def _indented(value: object, by: str) -> str:
    import json

    return json.dumps(value, indent=by, ensure_ascii=False)


def _verbosely(told: Json) -> Json:
    described = told["Descriptor"]
    kind = described["mediaType"]
    key = "SchemaV2Manifest" if kind.startswith("application/vnd.docker.") else "OCIManifest"
    order = ("mediaType", "digest", "size", "platform")
    return {
        "Ref": told["Reference"],
        "Descriptor": {name: described[name] for name in order if described.get(name)},
        "Raw": told["Raw"],
        key: _document(told),
    }


def _index(document: Json) -> Json:
    order = ("mediaType", "size", "digest", "urls", "annotations", "platform")
    entries = [{name: one[name] for name in order if name in one} for one in document["manifests"]]
    head: Json = {name: document[name] for name in ("schemaVersion", "mediaType") if name in document}
    return head | {"manifests": entries}


COMMANDS = {
    "search": Command(
        "[OPTIONS] TERM",
        "Search Docker Hub for images",
        search,
        (
            FILTER,
            ("format", "", "string", "", "Pretty-print search using a Go template"),
            ("limit", "", "int", 0, "Max number of search results"),
            ("no-trunc", "", "bool", False, "Don't truncate output"),
        ),
        least=1,
        most=1,
        kinds=KINDS,
    ),
    "manifest inspect": Command(
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Display an image manifest, or manifest list",
        inspect_manifest,
        (
            ("insecure", "", "bool", False, "Allow communication with an insecure registry"),
            ("verbose", "v", "bool", False, "Output additional info including layers and platform"),
        ),
        least=1,
        most=2,
    ),
    "serve-registry": Command(
        "[OPTIONS]",
        "Serve the images of this machine as a registry",
        serve_registry,
        (
            ("htpasswd", "", "string", "", "File of names and bcrypt hashes: only they may come in"),
            ("listen", "", "string", LISTEN, "Address to listen on"),
            ("read-only", "", "bool", False, "Refuse pushes and deletions"),
            ("tls-cert", "", "string", "", "File of the certificate, and those that vouch for it (PEM)"),
            ("tls-key", "", "string", "", "File of the key to it (PEM)"),
        ),
        most=0,
    ),
}
