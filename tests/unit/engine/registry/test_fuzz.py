"""Whatever a registry answers: a value or an error of ours, no other exception, no endless loop."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import Registries
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.transport import RegistryRequest, RegistryResponse, joined
from skiff.errors import SkiffError, Unavailable
from skiff.oci import digest as digests
from skiff.oci.manifest import ACCEPTED, Descriptor
from skiff.oci.reference import parse

SECRET = "s3cret-p4ssword"
WHO = Credentials("ann", SECRET)
MOST_REQUESTS = 1000  # a blob may come byte by byte: progress earns new patience

LINE = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40)
WORDS = st.sampled_from(
    [
        'Bearer realm="http://x.lan/token",service="s",scope="repository:a:pull"',
        'Bearer realm="nonsense"',
        'Bearer realm="http://[::1/token"',
        'Bearer realm="http://x.lan:port/"',
        'Basic realm="x"',
        "Basic",
        '</v2/a/tags/list?last=b>; rel="next"',
        '<//evil/v2/a>; rel="next"',
        '<http://[>; rel="next"',
        "0-99",
        "bytes=0-7",
        "0-999999999999999999999",
        "/v2/a/blobs/uploads/1?state=x",
        "http://[::1/uploads",
        "http://other:99999/x",
        "120",
        "Wed, 21 Oct 2026 07:28:00 GMT",
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["WWW-Authenticate", "Link", "Location", "Range", "Content-Range", "Content-Type", "Retry-After"]
    ),
    LINE | WORDS | st.sampled_from(ACCEPTED),
    max_size=4,
)
KEYS = (
    "token",
    "access_token",
    "refresh_token",
    "expires_in",
    "errors",
    "code",
    "message",
    "tags",
    "schemaVersion",
    "config",
    "mediaType",
    "layers",
    "manifests",
    "digest",
    "size",
    "platform",
    "results",
    "repositories",
    "name",
    "subject",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


def encoded(value: object) -> bytes:

    return json.dumps(value).encode()


BODY = st.binary(max_size=60) | JSON.map(encoded) | st.just(b"[" * 5000)
STATUS = st.sampled_from(
    [200, 201, 202, 204, 206, 301, 400, 401, 403, 404, 416, 429, 500, 503]
) | st.integers(100, 599)
ANSWERS = st.lists(st.tuples(STATUS, HEADERS, BODY), min_size=1, max_size=6)
Answer = tuple[int, Mapping[str, str], bytes]


class Reply:
    def __init__(self, url: str, answer: Answer) -> None:
        self.url = url
        self.status, self.headers, self.body = answer

    def challenges(self) -> list[str]:
        return [value for name, value in self.headers.items() if name == "WWW-Authenticate"]

    async def read(self, limit: int) -> bytes:
        if len(self.body) > limit:
            raise Unavailable("too long")
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.body), 7):
            yield self.body[at : at + 7]


class Arbitrary:
    """A RegistryTransport that gives those answers in turn, round and round."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.asked: list[RegistryRequest] = []

    @asynccontextmanager
    async def send(self, request: RegistryRequest) -> AsyncIterator[RegistryResponse]:
        assert len(self.asked) < MOST_REQUESTS, "it asks for ever"
        joined(request.url, "")  # what the real one does with it
        answer = self.answers[len(self.asked) % len(self.answers)]
        self.asked.append(request)
        if not isinstance(request.body, bytes | None):
            async for _ in request.body:
                pass
        yield Reply(request.url, answer)


async def all_of_it(answers: list[Answer]) -> None:
    reference = parse("x.lan/a:1")
    blob = Descriptor("application/octet-stream", digests.of(b"x" * 50), 50)
    large = Descriptor("application/octet-stream", digests.of(b"x"), 2 << 20)

    def registries() -> Registries:
        return Registries(Arbitrary(answers), Hosts(insecure=["x.lan"]), pause=no_pause)

    async def pulled(offset: int) -> None:
        async for _ in registries().repository(reference, WHO).blob(blob, offset):
            pass

    async def pushed(one: Descriptor) -> None:
        target = await registries().target(reference, WHO)
        await target.holds(one.digest)
        await target.mount(one.digest, ["b"])
        await target.upload(one, lambda: io.BytesIO(b"x" * one.size), lambda sent: None)
        await target.put_manifest("1", b"{}", ACCEPTED[0])

    for act in (
        registries().repository(reference, WHO).resolve("1"),
        registries().repository(reference, WHO).resolve(str(blob.digest)),
        registries().repository(reference, WHO).tags(),
        registries().repository(reference, WHO).referrers(str(blob.digest)),
        registries().login("x.lan", WHO),
        registries().search("x.lan/words", 10, WHO),
        pulled(0),
        pulled(20),
        pushed(blob),
        pushed(large),
    ):
        try:
            await act
        except SkiffError as error:
            assert SECRET not in str(error)


async def no_pause(seconds: float) -> None:
    pass


@given(ANSWERS)
@settings(deadline=None, max_examples=150)
def test_whatever_a_registry_answers(answers: list[Answer]) -> None:
    asyncio.run(all_of_it(answers))


@pytest.mark.parametrize(
    "url", ["http://[::1/token", "http://x.lan:port/", "http://x.lan:99999/", "//", "http://"]
)
def test_urls_that_are_none(url: str) -> None:
    for answers in (
        [(401, {"WWW-Authenticate": f'Bearer realm="{url}"'}, b"")],
        [(200, {"Link": f'<{url}>; rel="next"'}, b'{"tags":["a"]}')],
        [(200, {}, b""), (404, {}, b""), (202, {"Location": url}, b""), (202, {"Location": url}, b"")],
        [(200, {}, b""), (202, {"Location": url}, b"")],
    ):
        asyncio.run(all_of_it(answers))  # type: ignore[arg-type]
