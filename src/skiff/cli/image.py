"""Images: pull, push, rmi, tag, prune, commit. As archives: image_archive.py."""

from __future__ import annotations

import sys

from skiff.cli import human
from skiff.cli.each import each
from skiff.cli.filters import DRY_RUN, FORCE, KINDS, PRUNE_FILTER, agreed, wire
from skiff.cli.flags import Command
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]


def pull(session: Session, asked: Parsed) -> int:
    from skiff.client.credentials import auth_header
    from skiff.oci.reference import parse

    if asked.args[0].startswith("ssh://"):
        from skiff.cli import carrying

        return carrying.pull(session, asked)
    check_trust(asked)
    name = parse(asked.args[0])
    if asked["all-tags"] and not name.is_bare:
        raise InvalidParameter("tag can't be used with --all-tags/-a")
    quiet = asked["quiet"]
    if not asked["all-tags"] and name.is_bare:
        name = name.tagged()
        if not quiet:
            print(f"Using default tag: {name.tag}", flush=True)
    messages = session.engine().pull_image(
        name.familiar_name,
        "" if asked["all-tags"] else name.identifier,
        platform=asked["platform"] or session.env("DOCKER_DEFAULT_PLATFORM") or None,
        auth=auth_header(session.config(), str(name)),
    )
    shown(messages, quiet=quiet)
    print(name)
    return 0


def shown(messages: Iterator[Json], *, quiet: bool = False) -> list[Json]:
    """Follow what an engine reports; quiet: only fail where it fails. What carries an "aux"."""
    from skiff.cli.progress import follow

    if quiet:
        import io

        return follow(messages, io.StringIO())
    return follow(messages)


def push(session: Session, asked: Parsed) -> int:
    from skiff.client.credentials import auth_header
    from skiff.oci.reference import parse

    if len(asked.args) > 1:
        from skiff.cli import carrying

        return carrying.push(session, asked)
    check_trust(asked)
    name = parse(asked.args[0])
    if asked["all-tags"] and not name.is_bare:
        raise InvalidParameter("tag can't be used with --all-tags/-a")
    if not asked["all-tags"] and name.is_bare:
        name = name.tagged()
        if not asked["quiet"]:
            print(f"Using default tag: {name.tag}", flush=True)
    auth = auth_header(session.config(), str(name)) or "e30="  # {}: the engine wants the header
    tag = "" if asked["all-tags"] else name.identifier
    platform = described(asked["platform"])
    if platform and not asked["quiet"]:
        print(_ONE_PLATFORM, file=sys.stderr, flush=True)
    form = asked["compression"]
    if form not in ("", "gzip", "zstd"):
        raise InvalidParameter(f"invalid compression {form!r}: expected gzip or zstd")
    engine = session.engine()
    pushed = engine.push_image(name.familiar_name, tag, auth=auth, platform=platform, compression=form)
    shown(pushed, quiet=asked["quiet"])
    if asked["quiet"]:
        print(name)
    return 0


_ONE_PLATFORM = """
 Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.
         Other components, like attestations, will not be included.
         To push the complete multi-platform image, remove the --platform flag.
         """


def check_trust(asked: Parsed) -> None:
    """Raises InvalidParameter: signatures of the notary are not looked at."""
    if not asked["disable-content-trust"]:
        raise InvalidParameter("--disable-content-trust=false: content trust is not supported by skiff")


def described(text: str) -> str | None:
    """os[/arch[/variant]] as JSON of an OCI platform, None for "". Raises InvalidParameter."""
    if not text:
        return None
    import posix

    from skiff.client import json_text
    from skiff.oci import platform

    found = platform.parse(text, platform.of_machine(posix.uname().machine))
    described = {"os": found.os, "architecture": found.architecture}
    if found.variant:
        described["variant"] = found.variant
    return json_text.encode(described).decode()


def rmi(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    platforms = [described(text) or "" for text in asked["platform"]]

    def remove(name: str) -> None:
        try:
            done = engine.remove_image(
                name, force=asked["force"], prune=not asked["no-prune"], platforms=platforms
            )
        except EngineError as error:
            if not asked["force"] or error.status != 404:
                raise
            session.err(str(error))  # what is not there is gone, as was asked
            return
        for gone in done:
            print(f"Deleted: {gone['Deleted']}" if gone.get("Deleted") else f"Untagged: {gone['Untagged']}")

    return each(session, asked.args, remove, echo=False)


def tag(session: Session, asked: Parsed) -> int:
    source, target = asked.args
    try:
        repository, name = repository_and_tag(target)
    except InvalidParameter as error:
        raise InvalidParameter(
            f'Error parsing reference: "{target}" is not a valid repository/tag: {error}'
        ) from None
    session.engine().tag_image(source, repository, name)
    return 0


def repository_and_tag(text: str) -> tuple[str, str]:
    """NAME[:TAG] → (name, tag or ""). Raises InvalidParameter."""
    name, colon, tag = text.partition(":")
    if _is_plain(name) and ((tag.isascii() and tag.isalnum() and len(tag) <= 128) or not colon):
        return name, tag
    return _parsed(text)


def _is_plain(name: str) -> bool:
    """Whether it is a familiar name already: letters and digits between slashes. Most are, and so need no
    parser, which takes as long to load as the rest of us.
    """
    parts = name.split("/")
    is_safe = name.isascii() and name == name.lower() and len(name) < 64 and parts[0] != "library"
    return is_safe and all(part.isalnum() for part in parts)


def _parsed(text: str) -> tuple[str, str]:
    from skiff.oci.reference import parse

    name = parse(text)
    if name.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    return name.familiar_name, name.tag or ""


def wanted_platform(asked: Parsed) -> str | None:
    """Raises InvalidParameter."""
    try:
        return described(asked["platform"])
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid platform: {error}") from None


def prune(session: Session, asked: Parsed) -> int:
    what = (
        "all images without at least one container associated to them"
        if asked["all"]
        else "all dangling images"
    )
    dry = asked["dry-run"]
    if not dry and not asked["force"] and not agreed(session, f"WARNING! This will remove {what}."):
        return 0
    filters = wire(asked["filter"])
    filters["dangling"] = ["false" if asked["all"] else "true"]
    engine = session.engine()
    reply = engine.prunable("images", filters) if dry else engine.prune_images(filters)
    sys.stdout.write(pruned_images(reply.get("ImagesDeleted") or [], dry=dry))
    print(f"Total {'reclaimable' if dry else 'reclaimed'} space: {human.size(reply['SpaceReclaimed'])}")
    return 0


def pruned_images(gone: list[Json], *, dry: bool = False) -> str:
    if not gone:
        return ""
    lines = [
        f"untagged: {one['Untagged']}" if one.get("Untagged") else f"deleted: {one['Deleted']}"
        for one in gone
    ]
    return ("Would delete images:\n" if dry else "Deleted Images:\n") + "\n".join(lines) + "\n\n"


def commit(session: Session, asked: Parsed) -> int:
    repository, name = repository_and_tag(asked.args[1]) if len(asked.args) > 1 else ("", "")
    made = session.engine().commit_container(
        asked.args[0],
        {},
        repo=repository or None,
        tag=name or None,
        comment=asked["message"] or None,
        author=asked["author"] or None,
        changes=asked["change"],
        pause=asked["pause"],
    )
    print(made["Id"])
    return 0


TRUST = ("disable-content-trust", "", "bool", True, "Skip image verification")
ONE_PLATFORM = '{} the given {}. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'
CHANGE = ("change", "c", "list", (), "Apply Dockerfile instruction to the created image")
COMMANDS = {
    "pull": Command(
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        pull,
        (
            ("all-tags", "a", "bool", False, "Download all tagged images in the repository"),
            TRUST,
            ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
            ("quiet", "q", "bool", False, "Suppress verbose output"),
        ),
        least=1,
        most=1,
        aliases=("image pull", "pull"),
        forms=(("ssh://HOST/NAME[:TAG]", "Fetch the image from the skiff of another machine"),),
    ),
    "push": Command(
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        push,
        (
            ("all-tags", "a", "bool", False, "Push all tags of an image to the repository"),
            ("disable-content-trust", "", "bool", True, "Skip image signing"),
            (
                "compression",
                "",
                "string",
                "",
                "Compression of all layers: gzip or zstd (default: as they are)",
            ),
            (
                "platform",
                "",
                "string",
                "",
                "Push a platform-specific manifest as a single-platform image to the registry.\n"
                "Image index won't be pushed, meaning that other manifests, including attestations "
                "won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
            ),
            ("quiet", "q", "bool", False, "Suppress verbose output"),
        ),
        least=1,
        most=1,
        spare="ssh://",
        aliases=("image push", "push"),
        forms=(("NAME[:TAG] ssh://HOST", "Bring the image to the skiff of another machine"),),
    ),
    "rmi": Command(
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        rmi,
        (
            ("force", "f", "bool", False, "Force removal of the image"),
            ("no-prune", "", "bool", False, "Do not delete untagged parents"),
            (
                "platform",
                "",
                "csv",
                (),
                'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., '
                '"linux/amd64")',
            ),
        ),
        least=1,
        aliases=("image rm", "image remove", "rmi"),
    ),
    "tag": Command(
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        tag,
        least=2,
        most=2,
        aliases=("image tag", "tag"),
    ),
    "image prune": Command(
        "[OPTIONS]",
        "Remove unused images",
        prune,
        (
            ("all", "a", "bool", False, "Remove all unused images, not just dangling ones"),
            PRUNE_FILTER,
            FORCE,
            DRY_RUN,
        ),
        most=0,
        kinds=KINDS,
    ),
    "commit": Command(
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        commit,
        (
            ("author", "a", "string", "", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
            CHANGE,
            ("message", "m", "string", "", "Commit message"),
            ("pause", "p", "bool", True, "Pause container during commit"),
        ),
        least=1,
        most=2,
        aliases=("container commit", "commit"),
    ),
}
