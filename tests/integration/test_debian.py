"""A real distribution: Debian made by mmdebstrap, from Debian's registry, in several layers.

The base is built once and kept below ~/.cache; without a Debian mirror there is none, and the tests say so.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cli
from tests.integration.engines import Engine, wait_for

SUITE = "bookworm"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skiff-tests"
LEAVE_OUT = ("doc", "locale", "man")
REGISTRY = "127.0.0.1:5000"
IMAGE = f"{REGISTRY}/debian:{SUITE}"
CONFIGURATION = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "{address}"}}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("debian")]


@pytest.fixture(scope="session")
def base() -> bytes:
    """The tar of Debian's root file system."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("needs mmdebstrap")
    kept = CACHE / f"debian-{SUITE}.tar"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = CACHE / f"{os.getpid()}.tar"
        without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEAVE_OUT]
        command = ["mmdebstrap", "--quiet", "--variant=apt", "--include=python3-minimal", *without]
        done = subprocess.run([*command, SUITE, str(fresh)], capture_output=True, text=True, timeout=380)
        if done.returncode != 0:
            fresh.unlink(missing_ok=True)
            pytest.skip(f"no Debian mirror within reach: {done.stderr[-300:]}")
        fresh.rename(kept)
    return kept.read_bytes()


@pytest.fixture(scope="session")
def archive(base: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker-archive: the base, a layer that adds, a layer that takes away and replaces."""
    adds = _layer({"opt/app/hello.py": b"print('hello from a layer')\n", "opt/app/old": b"x"})
    changes = _layer({"opt/app/.wh.old": b"", "etc/motd": b"changed\n"})
    path = tmp_path_factory.mktemp("debian") / "debian.tar"
    layers = [base, adds, changes]
    image: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Cmd": ["bash"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
        },
    }
    manifest = [
        {"Config": "image.json", "RepoTags": [IMAGE], "Layers": [f"{n}.tar" for n in range(len(layers))]}
    ]
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("image.json", json.dumps(image).encode()),
            *((f"{number}.tar", layer) for number, layer in enumerate(layers)),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            _add(tar, name, data)
    return path


@pytest.fixture
def pulled(own_engine: Engine, archive: Path) -> Iterator[Engine]:
    """An engine beside a registry that holds the image."""
    for program in ("docker-registry", "skopeo"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    configuration = Path(own_engine.root, "registry.yml")
    configuration.write_text(CONFIGURATION.format(root=f"{own_engine.root}/registry", address=REGISTRY))
    registry = subprocess.Popen(
        [*own_engine.network.enter, "docker-registry", "serve", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ask = ("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5000")
        wait_for(lambda: own_engine.run(*ask).code == 0, 20, lambda: "the registry does not answer")
        copy = ("skopeo", "copy", "--quiet", "--dest-tls-verify=false")
        own_engine.run(*copy, f"docker-archive:{archive}", f"docker://{IMAGE}", timeout=200).ok()
        yield own_engine
    finally:
        registry.terminate()
        registry.wait()


def test_debian_from_a_registry(pulled: Engine) -> None:
    said = pulled.docker("pull", IMAGE, timeout=200).ok().split("\n")
    assert said[0] == f"{SUITE}: Pulling from debian"
    assert sum(line.endswith(": Pull complete") for line in said) == 3
    assert said[-3].startswith("Digest: sha256:")
    assert said[-2:] == [f"Status: Downloaded newer image for {IMAGE}", IMAGE]
    assert pulled.skiff("pull", "-q", IMAGE).ok() == IMAGE
    run: Cli
    for run in (pulled.docker, pulled.skiff):
        inside = ("run", "--rm", IMAGE)
        assert run(*inside, "bash", "-c", "echo $BASH_VERSION").ok().startswith("5.")
        assert run(*inside, "python3", "/opt/app/hello.py").ok() == "hello from a layer"
        assert run(*inside, "ls", "/opt/app").ok() == "hello.py"
        assert run(*inside, "cat", "/etc/motd").ok() == "changed"
        assert "install ok installed" in run(*inside, "dpkg", "-s", "apt").ok()
        assert run(*inside, "apt-get", "check").code == 0
        assert run(*inside, "apt-cache", "policy", "bash").ok().startswith("bash:")
        by_user = ("run", "--rm", "-u", "nobody", IMAGE, "python3", "-c", "import os; print(os.getuid())")
        assert run(*by_user).ok() == "65534"
    digest = said[-3].removeprefix("Digest: ")
    assert pulled.docker("pull", "-q", f"{REGISTRY}/debian@{digest}").code == 0
    assert pulled.docker("rmi", "-f", IMAGE).code == 0


def _layer(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            _add(tar, name, data)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))


def test_an_engine_killed_during_a_pull(pulled: Engine) -> None:
    for delay in (0.2, 0.6, 1.2):
        pull = subprocess.Popen(
            [*pulled.network.enter, "docker", "pull", IMAGE],
            env=pulled.client_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        pulled.crash()
        pull.wait(30)
        pulled.start()
    pulled.docker("pull", "-q", IMAGE, timeout=200).ok()
    assert pulled.docker("run", "--rm", IMAGE, "python3", "/opt/app/hello.py").ok() == "hello from a layer"
    pulled.docker("rmi", IMAGE).ok()
    pulled.client.delete("/skiff/trash")
    # Nothing of what the killed ones had begun stays: the directories of layers are busybox's alone.
    kept = f"{pulled.root}/data/snapshots"
    layers = [name for name in os.listdir(kept) if os.path.isdir(f"{kept}/{name}/fs/usr")]
    assert layers == []
