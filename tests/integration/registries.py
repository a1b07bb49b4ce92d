"""Debian's docker-registry in its kinds: plain, with a file of passwords, with a token server, as the Hub."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.fakes import token_server
from tests.integration.engines import wait_for

PORTS = {"plain": 5101, "htpasswd": 5102, "token": 5103, "hub": 5105}
TOKEN_PORT = 5104
HUB = {
    "registry-1.docker.io:443": PORTS["hub"],
    "auth.docker.io:443": TOKEN_PORT,
}  # who must find the kind `hub`
PASSWORD = "s3cret"


def address(kind: str) -> str:
    return f"127.0.0.1:{PORTS[kind]}"


@contextmanager
def serving(kinds: Sequence[str], enter: Sequence[str], root: Path) -> Iterator[None]:
    """Registries of those kinds, where `enter` leads. Their users: ann, and bob, who may only pull."""
    with ExitStack() as stack:
        for kind in kinds:
            where = root / kind
            where.mkdir()
            words = _prepared(kind, where)
            _started(stack, [*enter, "docker-registry", "serve", f"{where}/config.yml"], where)
            ports = [PORTS[kind]]
            if words:
                _started(stack, [*enter, *words], where)
                ports.append(TOKEN_PORT)
            for port in ports:
                wait_for(partial(_answers, enter, port), 20, lambda: "a registry does not answer")
        yield


def _prepared(kind: str, where: Path) -> list[str]:
    """Its configuration is written; the words that start its token server, if it has one."""
    auth, words = "", []
    if kind == "htpasswd":
        for name, new in (("ann", "-c"), ("bob", "")):
            make = ["htpasswd", *filter(None, [new]), "-bB", f"{where}/people", name, PASSWORD]
            subprocess.run(make, check=True, capture_output=True)
        auth = f"auth: {{htpasswd: {{realm: people, path: {where}/people}}}}\n"
    elif kind in ("token", "hub"):
        files = ["-keyout", f"{where}/key.pem", "-out", f"{where}/cert.pem"]
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=t"]
        names = [f"DNS:{name.partition(':')[0]}" for name in HUB]
        make += ["-addext", f"subjectAltName={','.join(names)}"]
        subprocess.run([*make, *files], check=True, capture_output=True)
        der = ["openssl", "x509", "-in", f"{where}/cert.pem", "-outform", "der", "-out", f"{where}/cert.der"]
        subprocess.run(der, check=True, capture_output=True)
        realm = "https://auth.docker.io/token" if kind == "hub" else f"http://127.0.0.1:{TOKEN_PORT}/token"
        auth = (
            f"auth: {{token: {{realm: '{realm}', service: {token_server.SERVICE},"
            f" issuer: {token_server.ISSUER}, rootcertbundle: {where}/cert.pem}}}}\n"
        )
        words = ["python3", token_server.__file__, str(TOKEN_PORT), str(where)]
        words += ["tls"] if kind == "hub" else []
    tls = f", tls: {{certificate: {where}/cert.pem, key: {where}/key.pem}}" if kind == "hub" else ""
    (where / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\n"
        f"storage: {{filesystem: {{rootdirectory: {where}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{address(kind)}'{tls}}}\n{auth}"
    )
    return words


def _started(stack: ExitStack, words: list[str], where: Path) -> None:
    log = stack.enter_context(open(where / "log", "ab"))
    process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _answers(enter: Sequence[str], port: int) -> bool:
    ask = [*enter, "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
    return subprocess.run(ask, capture_output=True).returncode == 0
