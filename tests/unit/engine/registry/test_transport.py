"""Connections that must prove who they are, both ways."""

import ssl
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from skiff.engine.registry.transport import HttpTransport, RegistryRequest
from skiff.errors import Unavailable


def certificate(directory: Path, name: str) -> None:
    """A self-signed certificate for loopback: name.crt and name.key."""
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.crt"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *curve, *subject, *files], check=True, capture_output=True)


async def test_private_authority_and_client_certificate(tmp_path: Path) -> None:
    certificate(tmp_path, "server")
    certificate(tmp_path, "client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{tmp_path}/client.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(f"{tmp_path}/server.crt", f"{tmp_path}/server.key")

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text="hello")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/v2/"
    ours = tmp_path / "certs.d"
    ours.mkdir()
    (ours / "ca.crt").write_bytes((tmp_path / "server.crt").read_bytes())
    (ours / "client.cert").write_bytes((tmp_path / "client.crt").read_bytes())
    (ours / "client.key").write_bytes((tmp_path / "client.key").read_bytes())
    transport = HttpTransport()
    try:
        trusted = RegistryRequest(url=url, certificates=(f"{tmp_path}/absent", str(ours)))
        async with transport.send(trusted) as response:
            assert await response.read(100) == b"hello"
        with pytest.raises(Unavailable, match="x509: certificate signed by unknown authority"):
            async with transport.send(RegistryRequest(url=url)):
                pass
    finally:
        await transport.close()
        await runner.cleanup()
