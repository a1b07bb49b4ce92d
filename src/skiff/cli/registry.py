"""serve-registry: the images of this machine for other machines, as a registry."""

from __future__ import annotations

from skiff.cli.flags import Command
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

LISTEN = "127.0.0.1:5000"
OPEN = (
    "WARNING! Whoever can reach {} may {} this machine's images: "
    "--htpasswd FILE asks for a password, --read-only refuses writing."
)


def serve_registry(session: Session, asked: Parsed) -> int:
    """Until interrupted; each request is a line."""
    htpasswd = _read(asked["htpasswd"]) if asked["htpasswd"] else ""
    if asked["htpasswd"] and not htpasswd.strip():
        raise InvalidParameter(f"{asked['htpasswd']} names nobody: make it with htpasswd -B -c")
    seen = session.engine().serve_registry(asked["listen"], read_only=asked["read-only"], htpasswd=htpasswd)
    for event in seen:
        if "Address" in event:
            address = event["Address"]
            print(f"Registry listens on {address}", flush=True)
            if not htpasswd and not address.startswith(("127.", "[::1]")):
                session.err(OPEN.format(address, "read" if asked["read-only"] else "read and change"))
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


COMMANDS = {
    "serve-registry": Command(
        "[OPTIONS]",
        "Serve the images of this machine as a registry",
        serve_registry,
        (
            ("htpasswd", "", "string", "", "File of names and bcrypt hashes: only they may come in"),
            ("listen", "", "string", LISTEN, "Address to listen on"),
            ("read-only", "", "bool", False, "Refuse pushes and deletions"),
        ),
        most=0,
    ),
}
