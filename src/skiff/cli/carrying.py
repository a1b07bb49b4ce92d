"""push IMAGE ssh://HOST and pull ssh://HOST/IMAGE: images between this engine and another skiff."""

from __future__ import annotations

from skiff.client.carrying import PULLING, PUSHING, Repository, carry
from skiff.client.connection import Connection
from skiff.client.endpoint import Endpoint
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session
    from skiff.oci.reference import Reference


def push(session: Session, asked: Parsed) -> int:
    image, host = asked.args
    name = _name(image, asked)
    return _between(session, asked, name, host, pushes=True)


def pull(session: Session, asked: Parsed) -> int:
    place, _, image = asked.args[0].removeprefix("ssh://").partition("/")
    if not place or not image:
        raise InvalidParameter(f"invalid source {asked.args[0]!r}: expected ssh://[USER@]HOST[:PORT]/IMAGE")
    return _between(session, asked, _name(image, asked), f"ssh://{place}", pushes=False)


def _between(session: Session, asked: Parsed, name: Reference, host: str, *, pushes: bool) -> int:
    from skiff.cli.image import shown

    far = Connection(Endpoint(host, program="skiff"))
    here = Repository(session.engine().connection, name.familiar_name)
    there = Repository(far, name.familiar_name)
    try:
        there.check()
        source, target, words = (here, there, PUSHING) if pushes else (there, here, PULLING)
        tags = source.tags() if asked["all-tags"] else [name.identifier]
        if not asked["quiet"]:
            print(f"The push refers to repository [{host}/{name.familiar_name}]" if pushes else
                  f"Pulling from {host}/{name.familiar_name}", flush=True)  # fmt: skip
        for tag in tags:
            extras = shown(carry(source, target, tag, words), quiet=asked["quiet"])
            digest, size = extras[-1]["aux"]["Digest"], extras[-1]["aux"]["Size"]
            if not asked["quiet"]:
                print(f"{tag}: digest: {digest} size: {size}" if pushes else f"Digest: {digest}", flush=True)
    finally:
        far.close()
    print(name)
    return 0


def _name(text: str, asked: Parsed) -> Reference:
    from skiff.oci.reference import parse

    for flag in ("platform", "compression"):
        if flag in asked.changed:
            raise InvalidParameter(f"--{flag} cannot be used with ssh://: an image goes as it is")
    name = parse(text)
    if name.digest:
        raise InvalidParameter("cannot carry a digest reference: name a tag")
    if asked["all-tags"]:
        if not name.is_bare:
            raise InvalidParameter("tag can't be used with --all-tags/-a")
        return name
    return name.tagged()
