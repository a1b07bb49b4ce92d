"""Where a build's files come from: the request's body, a URL, a git repository. Each becomes a directory.

The body goes straight from the socket into the confined extractor: the engine never unpacks it itself. What
the client had left out by its .dockerignore, we leave out of remote contexts.
"""

import asyncio
import hashlib
import os
import posixpath
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from skiff.docker import dockerignore
from skiff.engine.builds.scratch import discard
from skiff.engine.builds.threads import finished
from skiff.engine.builds.tree import Tree, seen
from skiff.engine.registry.transport import reason_of
from skiff.engine.storage import compression
from skiff.engine.storage.extractor import Extractor, Job, Result
from skiff.engine.storage.uploads import Body, Upload
from skiff.errors import InvalidParameter, NotImplementedHere
from skiff.linux import fds

_PIPE = 1 << 20
_LARGEST_DOCKERFILE = 8 << 20
_MOST_SAID = 1 << 16  # bytes of what git says
_GIT = re.compile(r"^(git://|git@|github\.com/|ssh://)|^https?://[^#?]+\.git(#.*)?$")
IGNORE = ".dockerignore"


class Context(Struct, frozen=True):
    """sums: SHA-256 of its files by path, as far as they are known. token: of a tree that never changes."""

    directory: str
    sums: Mapping[str, str] = {}
    token: str = ""


async def receive(extractor: Extractor, body: Body, directory: str) -> Context:
    """A tar, plain or compressed, into directory, as it arrives. HostileArchive."""
    os.mkdir(directory, 0o755)
    if isinstance(body, Upload):
        return await _handed_over(extractor, body, directory)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        extraction = asyncio.ensure_future(
            finished(extractor.run, Job(directory, "none", digests=True), reader)
        )
        try:
            try:
                await _pour(body, writer, extraction)
            finally:
                os.close(writer)
        except BaseException:
            await asyncio.wait({extraction})
            extraction.exception()  # it was cut short: that is not the reason
            raise
        result = await extraction
    finally:
        os.close(reader)
    return Context(directory, result.sums)


async def _handed_over(extractor: Extractor, body: Upload, directory: str) -> Context:
    """The extractor reads the client's socket itself."""
    job = Job(directory, "none", digests=True, framed=True)
    with body.handed_over() as (stream, early):
        result = await finished(partial(extractor.run, early=early), job, stream)
    body.close(ended=result.ended)
    return Context(directory, result.sums)


async def _pour(body: AsyncIterator[bytes], writer: int, extraction: "asyncio.Future[Result]") -> None:
    """The body into the pipe; stops early when the extraction has ended, whose error is then to be told."""
    loop = asyncio.get_running_loop()
    os.set_blocking(writer, False)
    fds.widen_pipe(writer, _PIPE)
    async for chunk in body:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(writer, rest) :]
            except BlockingIOError:
                room = loop.create_future()
                loop.add_writer(writer, _ready, room)
                try:
                    await asyncio.wait({room, extraction}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    loop.remove_writer(writer)
                    room.cancel()
            except BrokenPipeError:
                return
            if extraction.done():
                return


def _ready(room: "asyncio.Future[None]") -> None:
    if not room.done():
        room.set_result(None)


def is_remote(text: str) -> bool:
    """Whether it is what `remote` takes."""
    return text.startswith(("http://", "https://")) or _GIT.match(text) is not None


async def remote(extractor: Extractor, url: str, directory: str) -> Context:
    """A git repository, an archive, or a lone Dockerfile."""
    if _GIT.match(url):
        await clone(url, directory)
    elif url.startswith(("http://", "https://")):
        download = f"{directory}.download"
        try:
            await fetch(url, download)
        except InvalidParameter as error:
            raise InvalidParameter(f"error downloading remote context {url}: {error}") from error
        try:
            await finished(_unpack, extractor, download, directory)
        finally:
            os.unlink(download)
    else:
        raise InvalidParameter(f"remoteURL ({url}) could not be recognized as URL")
    await finished(leave_out, directory)
    return Context(directory)


def _unpack(extractor: Extractor, download: str, directory: str) -> None:
    os.mkdir(directory, 0o755)
    archive = os.open(download, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(archive, 512, 0)
        if b"\0" not in head and compression.detect(head) == "none":  # text
            shutil.copyfile(download, f"{directory}/Dockerfile")
        else:
            extractor.run(Job(directory, "none", digests=True, max_bytes=_room(directory)), archive)
    finally:
        os.close(archive)


async def fetch(url: str, path: str, *, checksum: str = "") -> int:
    """The body of a GET into a new file; its Last-Modified in ns, 0 without. InvalidParameter.

    A server may send without end: at most half of what is free here is taken.
    """
    digest = hashlib.sha256()
    most, size = _room(os.path.dirname(path)), 0
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_read=60)) as session,
            session.get(url) as response,
        ):
            if response.status >= 400:
                raise InvalidParameter(f"failed to GET {url} with status {response.status} {response.reason}")
            with open(path, "wb") as file:
                async for chunk in response.content.iter_chunked(1 << 18):
                    size += len(chunk)
                    if max(size, response.content_length or 0) > most:
                        raise InvalidParameter(
                            f"{url} is larger than {most} bytes, half of what is free here"
                        )
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
            modified = response.headers.get("Last-Modified", "")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise InvalidParameter(f'Get "{url}": {reason_of(error)}') from error
    if checksum and checksum != f"sha256:{digest.hexdigest()}":
        raise InvalidParameter(f"digest mismatch sha256:{digest.hexdigest()}: {checksum}")
    try:
        return int(parsedate_to_datetime(modified).timestamp()) * 1_000_000_000
    except ValueError:
        return 0


def _room(directory: str) -> int:
    """Half of the bytes that are free in the file system of a directory."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize // 2


def download_name(url: str) -> str:
    """What a downloaded file is called: the last part of the URL's path. InvalidParameter."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not name or "/" in name or name in (".", ".."):
        raise InvalidParameter(f"cannot determine filename for source {url}")
    return name


async def clone(url: str, directory: str, *, keep_git: bool = False, commit: str = "") -> str:
    """A work tree; the commit it is at. repository#ref:subdirectory. NotImplementedHere without git."""
    if shutil.which("git") is None:
        raise NotImplementedHere("a git context needs the program git on the engine's machine")
    address, _, fragment = url.partition("#")
    ref, _, below = fragment.partition(":")
    if address.startswith("github.com/"):
        address = f"https://{address}"
    if address.startswith("-") or ref.startswith("-"):
        raise InvalidParameter(f"invalid git reference {url!r}")
    checkout = f"{directory}.git-checkout"
    try:
        await _git("init", "-q", checkout)
        await _git("-C", checkout, "fetch", "-q", "--depth=1", "--", address, ref or "HEAD")
        await _git("-C", checkout, "checkout", "-q", "FETCH_HEAD")
        head = (await _git("-C", checkout, "rev-parse", "HEAD")).strip()
        if commit and not head.startswith(commit):
            raise InvalidParameter(f"git commit mismatch: {head}: expected {commit}")
        if not keep_git:
            discard(f"{checkout}/.git")
        await finished(_take_below, checkout, below, directory)
        return head
    finally:
        await asyncio.to_thread(discard, checkout)


def _take_below(checkout: str, below: str, directory: str) -> None:
    with seen([checkout]) as tree:
        if not tree.is_directory(below or "/"):
            raise InvalidParameter(f"no such directory in the repository: {below}")
        os.rename(f"{checkout}{tree.canonical(below or '/')}".rstrip("/"), directory)


async def _git(*words: str) -> str:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": "/nonexistent",
        # a repository must not make git run or read what is on this machine
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    }
    process = await asyncio.create_subprocess_exec(
        "git",
        *words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        out, said = await asyncio.gather(_end_of(process.stdout), _end_of(process.stderr))
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise InvalidParameter(f"git failed: {said.decode(errors='replace').strip()}")
    return out.decode()


async def _end_of(stream: asyncio.StreamReader) -> bytes:
    """The last of what a program says: a server may make it say anything, and any amount of it."""
    held = b""
    while data := await stream.read(_MOST_SAID):
        held = (held + data)[-_MOST_SAID:]
    return held


def leave_out(directory: str) -> None:
    """Delete what its .dockerignore names, in a context that no client of ours has cleared."""
    with seen([directory]) as tree:
        excluded = dockerignore.Patterns(dockerignore.parse(tree.read(f"/{IGNORE}")))
    if excluded:
        _prune(directory, "", excluded)


def _prune(directory: str, prefix: str, excluded: dockerignore.Patterns) -> None:
    with os.scandir(directory) as children:
        for child in list(children):
            name = f"{prefix}{child.name}"
            is_directory = child.is_dir(follow_symlinks=False)
            if name in (IGNORE, "Dockerfile"):
                continue
            if is_directory:
                if excluded.excludes_all_of(name):
                    discard(child.path)
                    continue
                _prune(child.path, f"{name}/", excluded)
                if excluded.excludes(name) and not os.listdir(child.path):
                    os.rmdir(child.path)
            elif excluded.excludes(name):
                os.unlink(child.path)


def read_dockerfile(directory: str, name: str) -> tuple[bytes, tuple[str, ...]]:
    """The Dockerfile and the patterns of the context's .dockerignore, which loses what names these two.

    Clients send both even if they are ignored: we need them. InvalidParameter: Docker's words.
    """
    if posixpath.normpath(name).startswith(".."):
        raise InvalidParameter(f"forbidden path outside the build context: {name} ()")
    with seen([directory]) as tree:
        name = _found(tree, name)
        source = tree.read("/" + name)
        ignored = dockerignore.parse(tree.read(f"/{IGNORE}"))
        status = tree.status("/" + name)
        place = tree.canonical("/" + name)
    _check(name, source if status is not None else None)
    excluded = dockerignore.Patterns(ignored)
    for path in (place, f"/{IGNORE}"):
        if excluded.excludes(path.lstrip("/")):
            with suppress(FileNotFoundError):
                os.unlink(directory + path)
    return source, ignored


class Sent(Struct, rename="pascal"):
    """What a client sends beside a kept tree; base64 in its JSON."""

    dockerfile: bytes
    ignore: bytes = b""


def sent_dockerfile(data: bytes, name: str) -> tuple[bytes, tuple[str, ...]]:
    """What read_dockerfile gives, of the JSON of a Sent. InvalidParameter."""
    try:
        sent = msgspec.json.decode(data, type=Sent)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"error reading the Dockerfile: {error}") from error
    return _check(name, sent.dockerfile), dockerignore.parse(sent.ignore)


def _check(name: str, source: bytes | None) -> bytes:
    if source is None:
        raise InvalidParameter(f"Cannot locate specified Dockerfile: {name}")
    if not source:
        raise InvalidParameter(f"the Dockerfile ({name}) cannot be empty")
    if len(source) > _LARGEST_DOCKERFILE:
        raise InvalidParameter(f"the Dockerfile is larger than {_LARGEST_DOCKERFILE} bytes")
    return source


def _found(tree: Tree, name: str) -> str:
    if name == "Dockerfile" and tree.status("/Dockerfile") is None and tree.status("/dockerfile"):
        return "dockerfile"
    return name
