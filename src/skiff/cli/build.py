"""skiff build: contexts go to the engine, what happens there is shown, the results are put in place."""

from __future__ import annotations

from skiff.cli import build_query
from skiff.cli.build_flags import FLAGS, KINDS
from skiff.cli.buildx import settle
from skiff.cli.flags import Command
from skiff.cli.progress import Refused, follow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from skiff.cli.build_agents import Agents
    from skiff.cli.build_output import Wanted
    from skiff.cli.build_sending import Body
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]


def build(session: Session, asked: Parsed) -> int:
    from skiff.cli.build_sending import Sending, cache_sources

    settle(session, asked)
    connection = session.engine().connection
    query = build_query.query(session, asked)
    wanted = _wanted(asked, query)
    sending = Sending(connection, asked, query)
    if asked["cache-from"]:
        query["cachefrom"] = _encoded(cache_sources(sending, asked["cache-from"]))
    body = sending.body()
    headers = build_query.headers(session, asked)
    agents = _agents(session, asked, query)
    try:
        return _built(session, asked, query, body, headers, wanted, agents)
    finally:
        if agents is not None:
            agents.close()


def _agents(session: Session, asked: Parsed, query: Json) -> Agents | None:
    if not asked["ssh"]:
        return None
    from skiff.cli.build_agents import Agents

    agents = Agents(session, asked["ssh"])
    query["ssh"] = _encoded(agents.ids)
    return agents


def _built(
    session: Session,
    asked: Parsed,
    query: Json,
    body: Body,
    headers: dict[str, str],
    wanted: list[Wanted],
    agents: Agents | None,
) -> int:
    connection = session.engine().connection
    response = connection.request("POST", "/build", query=query, body=body, headers=headers)
    messages: Iterable[Json] = response.lines()
    if agents is not None:
        messages = agents.serve(messages)
    if wanted:
        from skiff.cli.build_output import received

        messages = received(session, messages, wanted)
    try:
        extras = [message["aux"] for message in _shown(messages, asked)]
    except Refused as error:
        session.err(str(error))
        return 1
    except KeyboardInterrupt:
        response.close()  # the engine ends the build when nobody listens any more
        raise
    return _concluded(asked, extras)


def _wanted(asked: Parsed, query: Json) -> list[Wanted]:
    """What the engine hands over, in the order in which it numbers it."""
    if not (asked["output"] or asked["load"] or asked["push"] or asked["cache-to"]):
        return []
    from skiff.cli import build_output

    outputs, caches = build_output.outputs(asked), build_output.caches(asked)
    if outputs:
        query["outputs"] = _encoded(build_output.described(outputs))
    if caches:
        query["cacheto"] = _encoded(build_output.described(caches))
    return [*outputs, *caches]


def _encoded(value: object) -> str:
    from skiff.client import json_text

    return json_text.encode(value).decode()


def _shown(messages: Iterable[Json], asked: Parsed) -> list[Json]:
    """Raises Refused."""
    from skiff.cli import build_view

    if asked["quiet"] or asked["progress"] == "quiet":
        messages = _quiet(messages)
    if asked["progress"] == "none":
        messages = (message for message in messages if message.keys() & {"aux", "error"})
    if asked["progress"] == "rawjson":
        messages = build_view.raw(messages)
    elif build_query.is_live(asked):
        return build_view.Live(build_query.progress_goes(asked)).show(messages)
    return follow(messages, build_query.progress_goes(asked))


def _quiet(messages: Iterable[Json]) -> Iterator[Json]:
    """The image's id alone, which is the only line then; whoever writes it to a file finds it as an "aux"."""
    for message in messages:
        if message.keys() & {"aux", "error", "stream"}:
            yield message
        if str(message.get("stream", "")).startswith("sha256:"):
            yield {"aux": {"ID": message["stream"].strip()}}


def _concluded(asked: Parsed, extras: list[Json]) -> int:
    checks = [extra["Check"] for extra in extras if "Check" in extra]
    if checks:
        from skiff.cli.build_check import report

        return report(checks[0], asked["file"].rpartition("/")[2] or "Dockerfile")
    ids = [extra["ID"] for extra in extras if "ID" in extra]
    id = ids[-1] if ids else ""
    if asked["iidfile"] or asked["metadata-file"]:
        from skiff.cli import build_output

        if asked["iidfile"]:
            build_output.write(asked["iidfile"], id)
        if asked["metadata-file"]:
            build_output.metadata(asked, id, [extra for extra in extras if "Digest" in extra])
    return 0


COMMANDS = {
    "build": Command(
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        build,
        FLAGS,
        least=1,
        most=1,
        kinds=KINDS,
        aliases=("build", "builder build", "image build", "buildx build", "buildx b"),
        long="Start a build",
    ),
}
