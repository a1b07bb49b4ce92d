"""Dockerfiles of streams/corpus.txt, and what POST /build says of each: status, stream, errors.

The corpus reads as that of built.py, but for the flags: they are parameters of the query.

What is compared: the status; the events, of which those with `stream` that follow one another are one text,
since how a command's output is cut is chance; ids are `<id>`. `python -m tests.conformance.streamed` asks
Docker.
"""

import http.client
import io
import json
import os
import re
import sys
import tarfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from tests.conformance import built
from tests.integration import busybox
from tests.integration.client import Client

HOME: Final = Path(__file__).parent / "streams"
GOLDEN: Final = HOME / "docker.json"
Said = dict[str, Any]
_ID = re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b")


def cases() -> list[built.Case]:
    return built.cases(HOME)


def said(client: Client, case: built.Case) -> Said:
    """What the engine says; without a cache, so that an earlier case does not matter."""
    query = {"nocache": "1"} | dict(flag.split("=", 1) for flag in case.flags)
    reply = client.post(f"/build?{urlencode(query)}", _context(case))
    lines = reply.body.splitlines()
    try:
        return {"status": reply.status, "events": _joined([json.loads(line) for line in lines])}
    except ValueError:
        return {"status": reply.status, "text": reply.body.decode()}


def alike(one: Said) -> Said:
    """Docker answers many a fault of the client with 500, as if it were its own; skiff with 400."""
    return {**one, "status": 400} if one["status"] == 500 else one


def _context(case: built.Case) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in case.files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), 0o644, built.KEPT
            tar.addfile(entry, io.BytesIO(content.encode()))
    return out.getvalue()


def _joined(events: list[Said]) -> list[Said]:
    found: list[Said] = []
    for event in events:
        if event.keys() == {"stream"} and found and found[-1].keys() == {"stream"}:
            found[-1] = {"stream": found[-1]["stream"] + event["stream"]}
        else:
            found.append(event)
        event.pop("detail", None)  # what skiff shows a person besides
        event.get("errorDetail", {}).pop("detail", None)
    made: list[Said] = json.loads(_ID.sub("<id>", json.dumps(found)))
    return made


def main(names: list[str]) -> None:
    """Asks the Docker at DOCKER_HOST, a unix socket."""
    client = Client(os.environ["DOCKER_HOST"].removeprefix("unix://"))
    client.post("/images/load", busybox.archive())
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for case in cases():
        if not names or case.name in names:
            try:
                known[case.name] = said(client, case)
            except http.client.HTTPException as error:
                raise SystemExit(f"{case.name}: Docker broke off: {error}") from error
    found = {case.name: known[case.name] for case in cases()}
    GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
