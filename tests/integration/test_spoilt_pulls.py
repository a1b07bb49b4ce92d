"""Pulls from Debian's docker-registry, every kind of answer spoilt in every way: once, and each time.

The rule: the image is there in the end, or a sentence says why not; never half of it, and nothing is left.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from skiff.engine.registry.auth import Credentials
from skiff.errors import DigestMismatch, SkiffError
from tests.fakes import token_server
from tests.fakes.spoiler import FAULTS, KINDS, Spoiler
from tests.integration.engines import wait_for
from tests.integration.image_store import MARKS, Engine, layer, layout, push, serving
from tests.integration.test_bad_networks import nothing_is_left

pytestmark = MARKS

HEALS = {"nothing", "headers", "body", "reset", "drip", "503", "429"}  # by asking again
CAUGHT = {"short", "long", "corrupt"}  # by a digest or a length
# all of the blob came, and its digest says so; a blob cut again and again makes progress each time
COMES_ANYWAY = {
    ("config", "long"),
    ("blobs", "long"),
    ("token", "corrupt"),  # in its middle begins the copy that nobody reads
    *((k, f) for k in ("config", "blobs") for f in ("body", "reset", "short")),
}


ANN = Credentials("ann", "s3cret")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The directory of a registry, and the config of the image in it."""
    root = tmp_path_factory.mktemp("stored")
    id = layout(root / "layout", [layer({"one": b"1"}), layer({"two": os.urandom(300_000)})])
    with serving(root / "registry") as address:
        push(root / "layout", f"{address}/team/app:1")
    yield root / "registry", id


@pytest.fixture
async def spoiler(stored: tuple[Path, str], tmp_path: Path) -> AsyncIterator[Spoiler]:
    """Before that registry, which wants a token now."""
    root, config = stored
    where = tmp_path / "tokens"
    where.mkdir()
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=t"]
    files = ["-keyout", f"{where}/key.pem", "-out", f"{where}/cert.pem"]
    subprocess.run([*openssl, *files], check=True, capture_output=True)
    der = ["openssl", "x509", "-in", f"{where}/cert.pem", "-outform", "der", "-out", f"{where}/cert.der"]
    subprocess.run(der, check=True, capture_output=True)
    async with Spoiler() as spoiler:
        auth = (
            f"auth: {{token: {{realm: 'http://{spoiler.address}/token', service: {token_server.SERVICE},"
            f" issuer: {token_server.ISSUER}, rootcertbundle: {where}/cert.pem}}}}\n"
        )
        port = free_port()
        tokens = subprocess.Popen([sys.executable, token_server.__file__, str(port), str(where)])
        try:
            with serving(root, auth) as address:
                spoiler.targets = (address, f"127.0.0.1:{port}")
                spoiler.configs = {config}
                await asyncio.to_thread(wait_for, lambda: answers(port), 20, lambda: "no token server")
                yield spoiler
        finally:
            tokens.terminate()
            tokens.wait()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    await engine.close()


async def forget(engine: Engine) -> None:
    """The next pull begins from nothing: no image, no blob, no token."""
    for row in engine.images.rows():
        await engine.images.remove(row.id)
    for info in list(engine.content.walk()):
        engine.content.delete(info.digest)
    engine.registries._tokens.clear()
    assert not os.listdir(f"{engine.root}/content/ingest")


@pytest.mark.parametrize("fault", FAULTS)
async def test_spoilt_once(engine: Engine, spoiler: Spoiler, fault: str) -> None:
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    engine.registries._pause = pause
    name = f"{spoiler.address}/team/app:1"
    for kind in KINDS:
        waited.clear()
        spoiler.faults = {kind: [fault]}
        try:
            await engine.pull(name, credentials=ANN)
        except SkiffError as error:
            is_blob = kind in ("config", "blobs")  # its length and digest are known: it is fetched anew
            assert fault not in HEALS and not (is_blob and fault in CAUGHT), (kind, error)
            assert str(error) and "Traceback" not in str(error)
            await nothing_is_left(engine)
        else:
            assert len(engine.images.rows()) == 1
            assert not spoiler.faults[kind], f"{kind} was asked for"
        if fault == "429":
            assert waited and 2.0 <= waited[0] <= 2.5, "as long as the registry said"
        await forget(engine)


@pytest.mark.parametrize("fault", [one for one in FAULTS if one != "drip"])
async def test_spoilt_each_time(engine: Engine, spoiler: Spoiler, fault: str) -> None:
    async def pause(seconds: float) -> None:
        pass

    engine.registries._pause = pause
    name = f"{spoiler.address}/team/app:1"
    for kind in KINDS:
        if (kind, fault) in COMES_ANYWAY:
            continue
        spoiler.faults = {kind: [fault] * 1000}
        with pytest.raises(SkiffError) as said:
            await engine.pull(name, credentials=ANN)
            pytest.fail(f"an image came, its {kind} {fault}")
        assert str(said.value)
        assert len(spoiler.faults[kind]) > 900, "it gives up"
        await nothing_is_left(engine)
        spoiler.faults = {}
        await engine.pull(name, credentials=ANN)
        await forget(engine)


async def test_a_manifest_is_what_the_registry_says_it_is(engine: Engine, spoiler: Spoiler) -> None:
    spoiler.faults = {"manifests": ["corrupt"]}
    with pytest.raises(DigestMismatch, match="manifest verification failed for digest sha256:"):
        await engine.pull(f"{spoiler.address}/team/app:1", credentials=ANN)


async def test_a_blob_goes_on_where_it_broke(engine: Engine, spoiler: Spoiler) -> None:
    async def pause(seconds: float) -> None:
        pass

    engine.registries._pause = pause
    spoiler.faults = {"blobs": ["body", "body", "reset"]}
    await engine.pull(f"{spoiler.address}/team/app:1", credentials=ANN)
    assert [kind for kind, start in spoiler.seen if start] == ["blobs"] * 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
