"""Registries that only a proxy can reach: through a tunnel (TLS) and without, with a password for the proxy;
and what NO_PROXY spares.
"""

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from skiff.engine.registry import hosts
from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.proxies import Proxies
from skiff.engine.registry.transport import HttpTransport
from skiff.errors import SkiffError
from tests.fakes.forward_proxy import ForwardProxy
from tests.integration.image_store import MARKS, Engine, layer, layout, push, serving

pytestmark = MARKS
FAR = "registry.far.example"  # nobody but the proxy can find it
USER = "me:p@ss:w/rd"
QUOTED = "me:p%40ss%3Aw%2Frd"  # as it stands in a URL


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """By TLS, for ann alone; its certificate is the authority, too."""
    root = tmp_path_factory.mktemp("far")
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", "/CN=far", "-addext", f"subjectAltName=DNS:{FAR},IP:127.0.0.1"),
            *("-keyout", f"{root}/key.pem", "-out", f"{root}/cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    people = ["htpasswd", "-cbB", f"{root}/people", "ann", "s3cret"]
    subprocess.run(people, check=True, capture_output=True)
    auth = f"auth: {{htpasswd: {{realm: people, path: {root}/people}}}}\n"
    tls = f", tls: {{certificate: {root}/cert.pem, key: {root}/key.pem}}"
    with serving(root / "registry", auth, tls) as address:
        yield address, root / "cert.pem"


@pytest.fixture
def trusted(registry: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "CERTIFICATES", (str(tmp_path / "certs.d"),))
    (tmp_path / "certs.d" / FAR).mkdir(parents=True)
    (tmp_path / "certs.d" / FAR / "ca.crt").write_bytes(registry[1].read_bytes())


@pytest.fixture
async def proxy(registry: tuple[str, Path]) -> AsyncIterator[ForwardProxy]:
    async with ForwardProxy(USER, {f"{FAR}:443": registry[0]}) as proxy:
        yield proxy


def through(root: Path, proxies: Proxies, hosts: Hosts | None = None) -> Engine:
    root.mkdir(exist_ok=True)
    engine = Engine(root, hosts)
    engine.transport = engine.registries._transport = HttpTransport(proxies=proxies)
    return engine


@pytest.mark.usefixtures("trusted")
async def test_pull_push_and_login_through_a_tunnel(proxy: ForwardProxy, tmp_path: Path) -> None:
    engine = through(tmp_path / "one", Proxies(https=f"http://{QUOTED}@{proxy.address}"))
    ann = Credentials("ann", "s3cret")
    try:
        await engine.registries.login(FAR, ann)
        with pytest.raises(SkiffError) as refused:
            await engine.registries.login(FAR, Credentials("ann", "wr0ng"))
        assert "wr0ng" not in str(refused.value)
        layout(tmp_path / "layout", [layer({"a": b"a" * 3_000_000})])
        with serving(tmp_path / "near") as near:
            await asyncio.to_thread(push, tmp_path / "layout", f"{near}/x:1")
            await engine.pull(f"{near}/x:1")
        await engine.images.tag(f"{near}/x:1", f"{FAR}/x", "1")
        await engine.push(f"{FAR}/x:1", credentials=ann)
        for name in (f"{near}/x:1", f"{FAR}/x:1"):
            await engine.images.remove(name)
        await engine.pull(f"{FAR}/x:1", credentials=ann)
        assert (await engine.images.list())[0].repo_tags == (f"{FAR}/x:1",)
        assert set(proxy.asked) == {f"CONNECT {FAR}:443 HTTP/1.1"}, "nothing of what goes through"
        assert not proxy.refused
    finally:
        await engine.close()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("user", ["", "me:wr0ng@"])
async def test_a_proxy_that_does_not_know_us(proxy: ForwardProxy, tmp_path: Path, user: str) -> None:
    engine = through(tmp_path / "one", Proxies(https=f"http://{user}{proxy.address}"))
    try:
        for act in (
            engine.pull(f"{FAR}/x:1"),
            engine.registries.login(FAR, Credentials("ann", "s3cret")),
        ):
            with pytest.raises(SkiffError, match="Proxy Authentication Required") as refused:
                await act
            assert "wr0ng" not in str(refused.value) and "s3cret" not in str(refused.value)
        assert proxy.refused
    finally:
        await engine.close()


async def test_a_proxy_that_is_down(tmp_path: Path) -> None:
    engine = through(tmp_path / "one", Proxies(https=f"http://{QUOTED}@127.0.0.1:9"))
    try:
        with pytest.raises(
            SkiffError, match=r"proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refu"
        ):
            await engine.pull(f"{FAR}/x:1")
    finally:
        await engine.close()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "no_proxy", [FAR, "far.example", ".far.example", "*.far.example", f"{FAR}:443", "x.org, far.example", "*"]
)
async def test_what_is_spared_is_asked_directly(proxy: ForwardProxy, tmp_path: Path, no_proxy: str) -> None:
    """And is not found, because only the proxy knows it."""
    engine = through(tmp_path / "one", Proxies(https=f"http://{QUOTED}@{proxy.address}", no_proxy=no_proxy))
    engine.registries.attempts = 1
    try:
        with pytest.raises(SkiffError, match="no such host"):
            await engine.pull(f"{FAR}/x:1")
        assert not proxy.asked
    finally:
        await engine.close()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("no_proxy", ["", "ar.example", f"{FAR}:80", ".registry.far.example", "10.0.0.0/8"])
async def test_what_is_not_spared(proxy: ForwardProxy, tmp_path: Path, no_proxy: str) -> None:
    engine = through(tmp_path / "one", Proxies(https=f"http://{QUOTED}@{proxy.address}", no_proxy=no_proxy))
    try:
        with pytest.raises(SkiffError, match="no basic auth credentials"):
            await engine.pull(f"{FAR}/x:1")
        assert proxy.asked and not proxy.refused
    finally:
        await engine.close()


async def test_without_tls_the_proxy_is_asked_for_it_all(tmp_path: Path) -> None:
    layout(tmp_path / "layout", [layer({"a": b"a"})])
    with serving(tmp_path / "registry") as near:
        await asyncio.to_thread(push, tmp_path / "layout", f"{near}/x:1")
        async with ForwardProxy(USER, {"plain.far.example": near}) as proxy:
            insecure = Hosts(insecure=["plain.far.example"])
            engine = through(tmp_path / "one", Proxies(http=f"{QUOTED}@{proxy.address}"), insecure)
            try:
                await engine.pull("plain.far.example/x:1")
                await engine.images.tag("plain.far.example/x:1", "plain.far.example/y", "1")
                await engine.push("plain.far.example/y:1")
                assert {line.split(" ")[1].split("/")[2] for line in proxy.asked} == {"plain.far.example"}
                assert not proxy.refused
                told = " ".join(proxy.asked)
                assert base64.b64encode(USER.encode()).decode() not in told
            finally:
                await engine.close()
