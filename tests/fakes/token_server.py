"""A token server for Debian's docker-registry: `python token_server.py PORT DIRECTORY [tls]`; wants openssl.

ann may do all, bob only pull; both have the password `s3cret` and get an identity token when they ask for it.
DIRECTORY has key.pem, cert.pem and cert.der; `public` in it: repositories that somebody unknown may pull, one
a line; `age`: how many seconds ago tokens end (the registry forgives 60); `asked`: a line for each request.
distribution, docs/spec/auth/token.md, jwt.md, oauth.md.
"""

import base64
import json
import os
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

RIGHTS = {"ann": {"pull", "push", "*"}, "bob": {"pull"}}
IDENTITY = {"ann": "identity-of-ann", "bob": "identity-of-bob"}
SERVICE, ISSUER = "registry", "issuer"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        user = self._basic()
        if user is None:
            return self._say(401, {"details": "incorrect username or password"})
        self._grant(user, query.get("scope", []), "offline_token" in query)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        users = [name for name, token in IDENTITY.items() if form.get("refresh_token") == [token]]
        if not users:
            return self._say(401, {"details": "unknown refresh token"})
        scopes = [scope for text in form.get("scope", []) for scope in text.split(" ")]
        self._grant(users[0], scopes, False)

    def _basic(self) -> str | None:
        """The user; empty for nobody, None for a wrong password."""
        header = self.headers.get("Authorization", "")
        if not header:
            return ""
        name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        return name if name in RIGHTS and password == "s3cret" else None

    def _grant(self, user: str, scopes: list[str], stays: bool) -> None:
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            rights = RIGHTS.get(user, {"pull"} if name in _public() else set())
            allowed = sorted(set(actions.split(",")) & rights)
            access.append({"type": kind, "name": name, "actions": allowed})
        with open(ROOT / "asked", "a") as asked:
            asked.write(f"{self.command} {user or '-'} {' '.join(scopes)}\n")
        token = _signed(user, access)
        answer = {"token": token, "access_token": token, "expires_in": 300}
        if stays and user:
            answer["refresh_token"] = IDENTITY[user]
        self._say(200, answer)

    def _say(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _public() -> list[str]:
    file = ROOT / "public"
    return file.read_text().splitlines() if file.exists() else []


def _signed(user: str, access: list[dict[str, Any]]) -> str:
    now = int(time.time())
    age = float((ROOT / "age").read_text()) if (ROOT / "age").exists() else -300.0
    header = {
        "typ": "JWT",
        "alg": "RS256",
        "x5c": [base64.b64encode((ROOT / "cert.der").read_bytes()).decode()],
    }
    claims = {
        "iss": ISSUER,
        "sub": user,
        "aud": SERVICE,
        "exp": int(now - age),
        "nbf": now - 600,
        "iat": now - 600,
        "jti": os.urandom(8).hex(),
        "access": access,
    }
    text = ".".join(_packed(json.dumps(part).encode()) for part in (header, claims))
    sign = ["openssl", "dgst", "-sha256", "-sign", str(ROOT / "key.pem")]
    return (
        f"{text}.{_packed(subprocess.run(sign, input=text.encode(), check=True, capture_output=True).stdout)}"
    )


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


if __name__ == "__main__":
    ROOT = Path(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    if sys.argv[3:] == ["tls"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ROOT / "cert.pem", ROOT / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
