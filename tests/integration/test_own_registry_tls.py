"""The registry of our own by TLS: docker, skopeo and our own client, an authority that nobody else knows."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.engines import Engine
from tests.integration.own_network import OUTSIDE, python_in
from tests.integration.test_own_registry import serving

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")

# what certs.d says is asked of the client itself: no test writes to this machine's /etc
RESOLVE = """import asyncio, sys
from skiff.engine.registry import hosts
from skiff.engine.registry.client import Registries
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.transport import HttpTransport
from skiff.errors import SkiffError
from skiff.oci.reference import parse

async def main(certificates, name):
    hosts.CERTIFICATES = (certificates,)
    transport = HttpTransport()
    try:
        found = await Registries(transport, Hosts()).repository(parse(name)).resolve("latest")
        print(found.descriptor.digest)
    except SkiffError as error:
        print(error)
    finally:
        await transport.close()

asyncio.run(main(*sys.argv[1:]))
"""


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.crt, and server.crt and server.key that it vouches for, for both addresses."""
    at = tmp_path_factory.mktemp("made")
    openssl(
        "req", "-x509", *CURVE, "-nodes", "-subj", "/CN=our authority",
        "-keyout", f"{at}/ca.key", "-out", f"{at}/ca.crt",
    )  # fmt: skip
    openssl(
        "req", *CURVE, "-nodes", "-subj", "/CN=registry", "-CA", f"{at}/ca.crt", "-CAkey", f"{at}/ca.key",
        "-addext", f"subjectAltName=IP:{OUTSIDE},IP:127.0.0.1", "-x509",
        "-keyout", f"{at}/server.key", "-out", f"{at}/server.crt",
    )  # fmt: skip
    return at


def resolved(engine: Engine, certificates: Path, name: str) -> str:
    out, err = python_in(engine.network.path, RESOLVE, str(certificates), name).communicate(timeout=60)
    assert not err, err
    return out.strip()


def test_an_authority_of_ones_own(engine: Engine, made: Path, tmp_path: Path) -> None:
    """At an address that is not the loopback: nobody is lenient there."""
    pair = ("--tls-cert", f"{made}/server.crt", "--tls-key", f"{made}/server.key")
    with serving(engine, *pair, host=OUTSIDE) as registry:
        name = f"{registry.address}/busybox"
        unknown, trusted = tmp_path / "unknown", tmp_path / "trusted"
        unknown.mkdir()
        (trusted / registry.address).mkdir(parents=True)
        (trusted / registry.address / "ca.crt").write_bytes((made / "ca.crt").read_bytes())
        assert "certificate signed by unknown authority" in resolved(engine, unknown, f"{name}:latest")
        assert resolved(engine, trusted, f"{name}:latest").startswith("sha256:")
        out = f"oci:{tmp_path}/out"
        skopeo = ("skopeo", "copy", "-q", "--src-cert-dir")
        refused = engine.run(*skopeo, str(unknown), f"docker://{name}", out)
        assert refused.code == 1 and "unknown authority" in refused.err
        directory = str(trusted / registry.address)
        engine.run(*skopeo, directory, f"docker://{name}", out).ok()
        back = ("skopeo", "copy", "-q", "--dest-cert-dir", directory)
        engine.run(*back, out, f"docker://{registry.address}/tls-came:1").ok()
        engine.docker("rmi", "tls-came:1").ok()


def test_docker_with_a_password(engine: Engine, made: Path, tmp_path: Path) -> None:
    people = tmp_path / "people"
    subprocess.run(["htpasswd", "-cbB", str(people), "ann", "s3cret"], check=True, capture_output=True)
    flags = ("--tls-cert", f"{made}/server.crt", "--tls-key", f"{made}/server.key", "--htpasswd", str(people))
    with serving(engine, *flags) as registry:
        login = engine.docker("login", "-u", "ann", "-p", "s3cret", registry.address)
        assert "Login Succeeded" in login.ok()
        mine = f"{registry.address}/tls/mine:1"
        engine.docker("tag", "busybox", mine).ok()
        assert "1: digest: sha256:" in engine.docker("push", mine).ok()
        engine.docker("rmi", mine).ok()
        assert engine.docker("pull", "-q", mine).ok() == mine
        engine.docker("rmi", mine, "tls/mine:1").ok()
        engine.docker("logout", registry.address).ok()
        plain = engine.run("curl", "-s", f"http://{registry.address}/v2/")
        assert plain.code, "no word without TLS"
        old = engine.run("curl", "-sk", "--tls-max", "1.1", f"https://{registry.address}/v2/")
        assert old.code, "nothing older than TLS 1.2"
    assert "s3cret" not in engine.log()
    body = (made / "server.key").read_text().splitlines()[1]
    assert body not in engine.log()


def test_files_that_will_not_do(engine: Engine, made: Path) -> None:
    def refused(*flags: str) -> str:
        run = engine.skiff("serve-registry", "--listen", "127.0.0.1:0", *flags, timeout=30)
        assert run.code == 1
        return run.err

    certificate, key = f"{made}/server.crt", f"{made}/server.key"
    assert "--tls-cert and --tls-key go together" in refused("--tls-cert", certificate)
    assert "--tls-cert and --tls-key go together" in refused("--tls-key", key)
    assert "open /missing: no such file or directory" in refused(
        "--tls-cert", certificate, "--tls-key", "/missing"
    )
    assert "cannot use that certificate with that key" in refused(
        "--tls-cert", certificate, "--tls-key", f"{made}/ca.key"
    )
    assert "cannot use that certificate with that key" in refused("--tls-cert", key, "--tls-key", certificate)
    openssl("ec", "-in", key, "-aes256", "-passout", "pass:word", "-out", f"{made}/locked.key")
    assert "the key without a passphrase" in refused(
        "--tls-cert", certificate, "--tls-key", f"{made}/locked.key"
    )


def test_a_warning_where_passwords_can_be_read(engine: Engine, tmp_path: Path) -> None:
    people = tmp_path / "people"
    subprocess.run(["htpasswd", "-cbB", str(people), "ann", "s3cret"], check=True, capture_output=True)
    with serving(engine, "--htpasswd", str(people), host=OUTSIDE) as registry:
        assert registry.ask("GET", "/v2/").status == 401
        registry.process.terminate()
        _, err = registry.process.communicate(timeout=20)
    assert f"WARNING! Passwords cross the network to {registry.address} as plain text" in err
