"""The client against a registry that misbehaves."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.fakes.registry import FakeRegistry

from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import LoginFailed, Registries, Repository
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.replies import Denied
from skiff.engine.registry.transport import HttpTransport
from skiff.errors import DigestMismatch, NotFound, Unauthorized, Unavailable
from skiff.oci.digest import Digest
from skiff.oci.manifest import OCI_LAYER, Descriptor
from skiff.oci.reference import parse

IMAGE: dict[str, Any] = {
    "schemaVersion": 2,
    "config": {"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 1},
    "layers": [],
}
USER = Credentials(username="me", password="secret")


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport()
    yield transport
    await transport.close()


class Clock:
    """Pauses that do not last."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def repository(
    transport: HttpTransport, address: str, credentials: Credentials | None = None, clock: Clock | None = None
) -> Repository:
    registries = Registries(transport, Hosts(), pause=(clock or Clock()).pause)
    return registries.repository(parse(f"{address}/x"), credentials)


def blob(digest: str, data: bytes) -> Descriptor:
    return Descriptor(OCI_LAYER, Digest(digest), len(data))


async def read(source: Repository, descriptor: Descriptor, offset: int = 0) -> bytes:
    return b"".join([chunk async for chunk in source.blob(descriptor, offset)])


async def test_resolves_tags_and_digests(fake: FakeRegistry, transport: HttpTransport) -> None:
    digest = fake.put_manifest("x", "1", IMAGE)
    source = repository(transport, fake.address)
    assert (await source.resolve("1")).descriptor.digest == digest
    assert (await source.resolve(digest)).data == fake.manifests["x", "1"][1]
    fake.manifests["x", digest] = ("application/json", b"{}")
    with pytest.raises(DigestMismatch):
        await source.resolve(digest)


async def test_unknown_manifest(fake: FakeRegistry, transport: HttpTransport) -> None:
    with pytest.raises(NotFound) as missing:
        await repository(transport, fake.address).resolve("1")
    assert (
        str(missing.value) == f"manifest for {fake.address}/x:1 not found: manifest unknown: manifest unknown"
    )


async def test_a_cut_blob_goes_on(fake: FakeRegistry, transport: HttpTransport) -> None:
    data = bytes(range(256)) * 1000
    digest = fake.put_blob(data)
    fake.cut[digest] = [1000, 0, 50_000]
    assert await read(repository(transport, fake.address), blob(digest, data)) == data
    ranges = [headers.get("Range") for _, _, headers in fake.requests]
    assert ranges[0] is None
    assert ranges[1:3] == [f"bytes=1000-{len(data) - 1}"] * 2


@pytest.mark.parametrize("ranges", [True, False])
async def test_resumes_at_an_offset(fake: FakeRegistry, transport: HttpTransport, ranges: bool) -> None:
    data = bytes(range(256)) * 1000
    digest = fake.put_blob(data)
    fake.ranges = ranges
    assert await read(repository(transport, fake.address), blob(digest, data), 1234) == data[1234:]


async def test_gives_up_without_progress(fake: FakeRegistry, transport: HttpTransport) -> None:
    digest = fake.put_blob(b"data")
    fake.cut[digest] = [0] * 20
    clock = Clock()
    with pytest.raises(Unavailable):
        await read(repository(transport, fake.address, clock=clock), blob(digest, b"data"))
    assert len(clock.pauses) == 4
    assert clock.pauses[-1] > clock.pauses[0]


async def test_a_missing_blob(fake: FakeRegistry, transport: HttpTransport) -> None:
    with pytest.raises(NotFound, match="blob unknown"):
        await read(repository(transport, fake.address), blob("sha256:" + "0" * 64, b"x"))


async def test_tries_again_what_may_pass(fake: FakeRegistry, transport: HttpTransport) -> None:
    digest = fake.put_manifest("x", "1", IMAGE)
    fake.failures = [503, 500, 429]
    clock = Clock()
    assert (await repository(transport, fake.address, clock=clock).resolve("1")).descriptor.digest == digest
    assert len(clock.pauses) == 3


async def test_too_many_requests(fake: FakeRegistry, transport: HttpTransport) -> None:
    fake.failures = [429] * 10
    with pytest.raises(Unavailable) as limited:
        await repository(transport, fake.address).resolve("1")
    assert str(limited.value) == "toomanyrequests: not now"


async def test_bearer(fake: FakeRegistry, transport: HttpTransport) -> None:
    fake.token, fake.basic = "t0ken", "me:secret"
    fake.put_manifest("x", "1", IMAGE)
    source = repository(transport, fake.address, USER)
    await source.resolve("1")
    await source.resolve("1")
    assert fake.paths().count("/token") == 1
    with pytest.raises(Unauthorized, match="incorrect username or password"):
        await repository(transport, fake.address, Credentials("me", "wrong")).resolve("1")


async def test_basic(fake: FakeRegistry, transport: HttpTransport) -> None:
    fake.basic = "me:secret"
    fake.put_manifest("x", "1", IMAGE)
    await repository(transport, fake.address, USER).resolve("1")
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        await repository(transport, fake.address).resolve("1")
    with pytest.raises(Unauthorized):
        await repository(transport, fake.address, Credentials("me", "wrong")).resolve("1")


async def test_denied(fake: FakeRegistry, transport: HttpTransport) -> None:
    fake.failures = [403]
    with pytest.raises(Denied) as denied:
        await repository(transport, fake.address).resolve("1")
    assert str(denied.value) == (
        f"pull access denied for {fake.address}/x, repository does not exist or may require 'docker login':"
        " unknown: not now"
    )


async def test_a_token_that_does_not_suffice(fake: FakeRegistry, transport: HttpTransport) -> None:
    fake.token = "t0ken"
    fake.scope_suffices = False
    with pytest.raises(Denied) as denied:
        await repository(transport, fake.address).resolve("1")
    assert str(denied.value) == (
        f"pull access denied for {fake.address}/x, repository does not exist or may require 'docker login':"
        " denied: requested access to the resource is denied"
    )


async def test_credentials_stay_at_home(fake: FakeRegistry, transport: HttpTransport) -> None:
    other = FakeRegistry()
    await other.start()
    try:
        digest = fake.put_blob(b"data")
        other.put_blob(b"data")
        fake.basic, fake.redirect = "me:secret", other.address
        assert await read(repository(transport, fake.address, USER), blob(digest, b"data")) == b"data"
        ((_, _, headers),) = other.requests
        assert "Authorization" not in headers
    finally:
        await other.stop()


async def test_all_pages_of_tags(fake: FakeRegistry, transport: HttpTransport) -> None:
    fake.page = 2
    for tag in "abcde":
        fake.put_manifest("x", tag, IMAGE)
    assert await repository(transport, fake.address).tags() == list("abcde")


async def test_a_mirror_is_asked_first_and_may_fail(fake: FakeRegistry, transport: HttpTransport) -> None:
    digest = fake.put_manifest("library/x", "1", IMAGE)
    hosts = Hosts(mirrors=["http://127.0.0.1:1", f"http://{fake.address}"])
    registries = Registries(transport, hosts, pause=Clock().pause)
    fetched = await registries.repository(parse("x"), USER).resolve("1")
    assert fetched.descriptor.digest == digest
    assert all("Authorization" not in headers for _, _, headers in fake.requests)


async def test_login(fake: FakeRegistry, transport: HttpTransport) -> None:
    fake.basic = "me:secret"
    registries = Registries(transport, Hosts(), pause=Clock().pause)
    assert await registries.login(fake.address, USER) == ""
    with pytest.raises(LoginFailed) as refused:
        await registries.login(fake.address, Credentials("me", "wrong"))
    assert str(refused.value) == (
        f"login attempt to http://{fake.address}/v2/ failed with status: 401 Unauthorized"
    )


async def test_login_at_a_token_server(fake: FakeRegistry, transport: HttpTransport) -> None:
    fake.basic, fake.token, fake.identity = "me:secret", "t0ken", "ident"
    registries = Registries(transport, Hosts(), pause=Clock().pause)
    assert await registries.login(fake.address, USER) == "ident"
    with pytest.raises(Unauthorized) as refused:
        await registries.login(fake.address, Credentials("me", "wrong"))
    assert str(refused.value) == (
        f'Get "http://{fake.address}/v2/": unauthorized: incorrect username or password'
    )


async def test_attempts_may_be_set_anew(fake: FakeRegistry, transport: HttpTransport) -> None:
    clock = Clock()
    registries = Registries(transport, Hosts(), attempts=2, pause=clock.pause)
    for attempts in (2, 3):
        registries.attempts = attempts
        clock.pauses.clear()
        fake.failures = [429] * 10
        with pytest.raises(Unavailable):
            await registries.repository(parse(f"{fake.address}/x")).resolve("1")
        assert len(clock.pauses) == attempts - 1
