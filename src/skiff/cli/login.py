"""login and logout: the engine asks the registry whether it knows us; config.json or a helper remembers.

A password is never shown, and goes to the engine's socket and the store only.
"""

from __future__ import annotations

import posix

from skiff.cli.flags import Command
from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

NO_TERMINAL = "Error: Cannot perform an interactive login from a non TTY device"
ON_THE_HUB = (
    "Log in with your Docker ID or email address to push and pull images from Docker Hub. "
    "If you don't have a Docker ID, head over to https://hub.docker.com/ to create one."
)
IN_PLAIN = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""
AS_BEFORE = """Authenticating with existing credentials... [Username: {}]

 Info -> To login with a different account, run 'skiff logout' followed by 'skiff login'

"""


class LoginRefused(SkiffError):
    """What was given cannot be a login."""


def login(session: Session, asked: Parsed) -> int:
    from skiff.client.credentials import credentials

    name, secret = asked["username"], asked["password"]
    if asked["password-stdin"]:
        if secret:
            raise LoginRefused("conflicting options: cannot specify both --password and --password-stdin")
        if not name:
            raise LoginRefused("the --password-stdin option requires --username to be set")
        secret = _all_input()
    elif secret:
        session.err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if "username" in asked.changed and not name:
        raise LoginRefused("username is empty")
    registry = _registry(asked.args)
    known = credentials(session.config(), registry)
    if not name and not secret and (known.get("username") or known.get("identitytoken")):
        session.err(AS_BEFORE.format(known.get("username", "")))
        try:
            return _enter(session, registry, known)
        except SkiffError as error:
            session.err(f"Login did not succeed, error: {error}")
    if not name or not secret:
        if not posix.isatty(0):
            raise LoginRefused(NO_TERMINAL)
        name, secret = _prompt(registry, name, secret, known.get("username", ""))
    return _enter(session, registry, {"username": name, "password": secret})


def _enter(session: Session, registry: str, found: dict[str, str]) -> int:
    from skiff.client.credentials import store

    found = {**found, "serveraddress": registry}
    answer = session.engine().post("/auth", json=found) or {}
    if answer.get("IdentityToken"):
        found = {
            "username": found.get("username", ""),
            "identitytoken": answer["IdentityToken"],
        }
    config = session.config()
    try:
        if store(config, registry, found):
            session.err(IN_PLAIN.format(config.path))
    except SkiffError as error:
        raise LoginRefused(f"Error saving credentials: {error}") from error
    print(answer.get("Status") or "Login Succeeded")
    return 0


def logout(session: Session, asked: Parsed) -> int:
    from skiff.client.credentials import erase

    registry = _registry(asked.args)
    print(f"Removing login credentials for {registry}", flush=True)
    try:
        erase(session.config(), registry)
    except SkiffError as error:
        session.err(f"WARNING: could not erase credentials:\n{registry}: {error}")
    return 0


def _registry(args: list[str]) -> str:
    """As config.json calls it: a host, or Docker Hub's old address."""
    from skiff.client.credentials import HUB

    given = args[0] if args else ""
    host = (given.partition("://")[2] or given).partition("/")[0]
    return HUB if host in ("", "docker.io", "index.docker.io", "registry-1.docker.io") else host


def _all_input() -> str:
    data = b""
    while piece := posix.read(0, 4096):
        data += piece
    return data.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _prompt(registry: str, name: str, secret: str, default: str) -> tuple[str, str]:
    from skiff.client.credentials import HUB

    if not name:
        if registry == HUB:
            print(ON_THE_HUB)
        print(f"Username ({default}): " if default else "Username: ", end="", flush=True)
        name = _line() or default
        if not name:
            raise LoginRefused("Error: Non-null Username Required")
    if not secret:
        secret = _unseen("Password: ")
        if not secret:
            raise LoginRefused("Error: Password Required")
    return name, secret


def _line() -> str:
    """A line of the terminal, no byte more: what follows is the password's."""
    data = b""
    while (byte := posix.read(0, 1)) not in (b"", b"\n"):
        data += byte
    return data.decode("utf-8", "surrogateescape").strip()


def _unseen(prompt: str) -> str:
    import termios

    before = termios.tcgetattr(0)
    silent = list(before)
    silent[3] &= ~termios.ECHO
    try:
        # drain only: what was typed ahead is meant for us
        termios.tcsetattr(0, termios.TCSADRAIN, silent)
        print(prompt, end="", flush=True)
        return _line()
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        print(flush=True)


COMMANDS = {
    "login": Command(
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry",
        login,
        (
            ("password", "p", "string", "", "Password or Personal Access Token (PAT)"),
            (
                "password-stdin",
                "",
                "bool",
                False,
                "Take the Password or Personal Access Token (PAT) from stdin",
            ),
            ("username", "u", "string", "", "Username"),
        ),
        most=1,
        long="Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    ),
    "logout": Command(
        "[SERVER]",
        "Log out from a registry",
        logout,
        most=1,
        long="Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    ),
}
