"""An engine and a command line as a case sees them: what it answered, as text to compare."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.conformance.differential import normal
from tests.conformance.differential.cases import Case
from tests.integration import busybox
from tests.integration.client import Client, Reply, unframed

SECONDS = 60
MARK = "=== "  # begins the answer of a case


class Subject:
    """command: the words before those of a case. environment: of the command line."""

    def __init__(self, socket: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.client = Client(socket)
        self.command = command
        self.environment = environment

    def tell(self, story: Iterable[Case]) -> list[str]:
        """The answers to a story, told from the beginning: on an engine that has nothing but busybox."""
        self.empty()
        begun = _instant()
        return [
            self.answer(
                case._replace(target=case.target.replace("{begun}", begun).replace("{now}", _instant()))
            )
            for case in story
        ]

    def answer(self, case: Case) -> str:
        """The case's line and, below it, what came of it."""
        told = self._run(case) if case.method == "$" else self._ask(case)
        return f"{MARK}{case.line}\n{told}"

    def _run(self, case: Case) -> str:
        done = subprocess.run(
            [*self.command, *shlex.split(case.target)],
            input=f"{case.body}\n".encode() if case.body else b"",
            capture_output=True,
            timeout=SECONDS,
            env=dict(os.environ) | dict(self.environment),
        )
        streams = (("", done.stdout), ("2| ", done.stderr))
        lines = [f"exit {done.returncode}\n"]
        for mark, raw in streams:
            shown = normal.text(raw.decode(errors="replace"))
            if case.shape:
                shown = f"{len(shown.splitlines())} lines\n"
            lines += [f"{mark}{line}\n" for line in shown.splitlines()]
        return "".join(lines)

    def _ask(self, case: Case) -> str:
        body = json.loads(case.body) if case.body else None
        reply = self.client.request(case.method, case.target, body)
        shown = normal.shape if case.shape else normal.document
        told = "".join(
            f"{json.dumps(shown(part), indent=1, ensure_ascii=False)}\n"
            if not isinstance(part, str)
            else f"{normal.text(part)}\n"
            for part in documents(reply)
        )
        return f"{reply.status} {reply.headers.get('content-type', '-')}\n{told}"

    def empty(self) -> None:
        """Remove all but what every engine has; then there is the image busybox:latest."""
        client = self.client
        for container in client.get("/containers/json", all=True).json():
            client.delete(f"/containers/{container['Id']}", force=True, v=True)
        client.post("/networks/prune")
        for volume in client.get("/volumes").json()["Volumes"] or ():
            client.delete(f"/volumes/{volume['Name']}", force=True)
        for image in client.get("/images/json").json():
            for name in image["RepoTags"] or [image["Id"]]:
                client.delete(f"/images/{name}", force=True)
        client.post("/build/prune", all=True)
        client.post("/images/load", busybox.archive())


def _instant() -> str:
    return f"{time.time():.9f}"


def documents(reply: Reply) -> list[Any]:
    """A body in parts: one JSON value, JSON lines, or the text of each stream."""
    if not reply.body:
        return []
    kind = reply.headers.get("content-type", "")
    if kind.endswith("multiplexed-stream"):
        return [
            f"{number}| {data.decode(errors='replace')}"
            for number, data in sorted(unframed(reply.body).items())
        ]
    if not kind.startswith("application/json"):
        return [
            f"{len(reply.body)} bytes"
            if b"\0" in reply.body
            else reply.body.decode(errors="replace").rstrip("\n")
        ]
    return [json.loads(line) for line in reply.body.splitlines() if line.strip()]
