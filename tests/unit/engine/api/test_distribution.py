"""The registry's door, fuzzed: whatever is asked, the answer has the specification's shape."""

import asyncio
import json
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.memory_content import MemoryContent
from tests.fakes.memory_snapshots import MemorySnapshots

from skiff.engine.api.app import App
from skiff.engine.api.distribution import DistributionRoutes
from skiff.engine.images.hosting import Hosting, page
from skiff.engine.images.names import ImageRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.packing import Packer
from skiff.engine.images.shelf import Shelf
from skiff.engine.images.uploads import Refusal
from skiff.engine.storage.gc import Collector
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.state import MemoryState
from skiff.oci.digest import Digest, ImageID
from skiff.oci.platform import Platform

PARTS = st.sampled_from(
    ["v2", "a", "A", "..", "blobs", "uploads", "manifests", "tags", "list", "latest", "sha256:" + "0" * 64,
     "sha512:" + "0" * 128, "sha256:0", "referrers", "_catalog", "%2e%2e", "%00", "x:y", "@", ""]
)  # fmt: skip
QUERIES = st.dictionaries(
    st.sampled_from(["digest", "mount", "from", "n", "last", "artifactType"]),
    st.text(max_size=12),
    max_size=3,
)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Range", "Content-Type", "Range", "If-None-Match"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    max_size=2,
)


def hosting(
    content: MemoryContent | None = None, state: MemoryState | None = None, removed: tuple[ImageRow, ...] = ()
) -> Hosting:
    state, content = state or MemoryState(), content or MemoryContent()
    leases, names, kept = Leases(state), Names(state), Shelf(state)
    needs = Needs(names, content, leases, lambda: removed, kept.needed)

    async def remove(name: str) -> None:
        raise AssertionError("nothing is here")

    return Hosting(
        names=names,
        content=content,
        leases=leases,
        packer=Packer(state, names, content, MemorySnapshots(), leases, needs),
        assembler=None,  # type: ignore[arg-type]  # nothing that is sent here is an image
        kept=kept,
        needs=needs,
        platform=Platform(architecture="amd64", os="linux"),
        publish=lambda *_: None,
        remove=remove,
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"]),
            st.lists(PARTS, max_size=6),
            QUERIES,
            HEADERS,
            st.binary(max_size=60),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_is_asked(asked: list[tuple[str, list[str], dict[str, str], dict[str, str], bytes]]) -> None:
    async def scenario() -> None:
        app = App([DistributionRoutes(hosting(), prefix="")])
        runner = web.ServerRunner(app.server())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        try:
            async with aiohttp.ClientSession() as session:
                for method, parts, query, headers, body in asked:
                    url = f"http://{host}:{port}/v2/" + "/".join(parts)
                    async with session.request(
                        method, url, params=query, headers=headers, data=body, allow_redirects=False
                    ) as reply:
                        text = await reply.read()
                        assert reply.status < 500, (method, url, reply.status, text)
                        if reply.status >= 400 and text and reply.status != 416:
                            document = json.loads(text)
                            assert document.get("errors") or document.get("message")
        finally:
            await runner.cleanup()

    asyncio.run(scenario())


def test_what_a_client_was_told_is_here_is_not_collected_before_it_names_it() -> None:
    content, state = MemoryContent(), MemoryState()
    ingest = content.ingest("a layer")
    ingest.write(b"layer")
    digest = ingest.commit()
    leases = Leases(state)

    def collect() -> tuple[Digest, ...]:
        return Collector(content, MemorySnapshots(), leases, lambda: (), dict).collect().blobs

    async def scenario() -> None:
        app = App([DistributionRoutes(hosting(content, state), prefix="")])
        runner = web.ServerRunner(app.server())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            async with aiohttp.ClientSession() as session:
                url = f"http://{host}:{port}/v2/app/blobs/"
                async with session.head(url + digest) as reply:
                    assert reply.status == 200
                async with session.head(url + "sha256:" + "0" * 64) as reply:
                    assert reply.status == 404
        finally:
            await runner.cleanup()

    asyncio.run(scenario())
    assert leases.held() == {digest}
    assert collect() == ()
    leases.release_all()
    assert collect() == (digest,)


def test_a_blob_of_an_image_that_can_come_back_is_not_deleted() -> None:
    content = MemoryContent()
    config, other = content.add(b"config"), content.add(b"other")
    asked = hosting(content, removed=(ImageRow(ImageID(config), (), datetime.now(UTC)),))
    asked.delete_blob("app", other)
    with pytest.raises(Refusal, match="in use"):
        asked.delete_blob("app", config)
    assert set(content.blobs) == {config}


@given(st.lists(st.text(max_size=3), unique=True), st.integers(1, 4))
def test_pages_hold_everything_once(items: list[str], most: int) -> None:
    ordered = sorted(one for one in items if one)
    seen: list[str] = []
    last, more = "", True
    while more:
        shown, more = page(ordered, last, most)
        seen += shown
        last = shown[-1] if shown else last
    assert seen == ordered
