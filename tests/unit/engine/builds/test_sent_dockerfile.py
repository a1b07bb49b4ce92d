"""What comes beside a context that the engine keeps: the Dockerfile and .dockerignore, no archive."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator

import msgspec
import pytest

from skiff.engine.builds import inputs
from skiff.engine.builds.context import sent_dockerfile
from skiff.errors import InvalidParameter


def sent(dockerfile: bytes, ignore: bytes = b"") -> bytes:
    return msgspec.json.encode(
        {"Dockerfile": b64encode(dockerfile).decode(), "Ignore": b64encode(ignore).decode()}
    )


def test_both_files_come_out() -> None:
    found = sent_dockerfile(sent(b"FROM busybox\n", b"a\n# no\n!b\n"), "Dockerfile")
    assert found == (b"FROM busybox\n", ("a", "!b"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no archive", "error reading the Dockerfile"),
        (b"{}", "error reading the Dockerfile"),
        (sent(b""), r"the Dockerfile \(x\) cannot be empty"),
        (sent(bytes((8 << 20) + 1)), "larger than 8388608 bytes"),
    ],
)
def test_what_is_no_dockerfile(data: bytes, said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        sent_dockerfile(data, "x")


def test_a_body_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield bytes(512)

    monkeypatch.setattr(inputs, "_LARGEST_BODY", 4096)
    with pytest.raises(InvalidParameter, match="more than 4096 bytes"):
        asyncio.run(inputs._whole(body()))
