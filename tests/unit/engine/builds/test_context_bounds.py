"""What comes from elsewhere into a build has bounds: what git says, what a server sends."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from skiff.engine.builds import context
from skiff.errors import InvalidParameter


def test_of_what_git_says_only_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "git"
    noise = "head -c 3000000 /dev/zero | tr '\\0'"
    git.write_text(f"#!/bin/sh\n{noise} x\n{noise} y >&2\necho the reason >&2\nexit 1\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InvalidParameter) as failed:
        asyncio.run(context._git("fetch"))
    assert str(failed.value).startswith("git failed: yyy")
    assert str(failed.value).endswith("y" * 100 + "the reason")
    assert len(str(failed.value)) < 1 << 17


@pytest.mark.parametrize("is_told", [True, False])
def test_a_download_takes_no_more_than_half_of_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    sent = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        response.content_length = 1 << 40 if is_told else None
        if not is_told:
            response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 16))
            sent += 1 << 16

    async def story() -> None:
        runner = web.ServerRunner(web.Server(endless), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        try:
            with pytest.raises(
                InvalidParameter, match="is larger than 1048576 bytes, half of what is free here"
            ):
                await context.fetch(f"http://127.0.0.1:{port}/f", f"{tmp_path}/f")
        finally:
            await runner.cleanup()

    monkeypatch.setattr(context, "_room", lambda directory: 1 << 20)
    asyncio.run(asyncio.wait_for(story(), 60))
    assert (tmp_path / "f").stat().st_size <= (0 if is_told else 1 << 20)
    assert sent < 64 << 20
