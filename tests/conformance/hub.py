"""An engine in a network whose Docker Hub is a stand-in: `python -m tests.conformance.hub COMMAND…`.

The Hub is Debian's docker-registry by TLS, behind a token server that lets everybody pull IMAGES; of what is
not there the Hub, too, says that access is denied. A proxy alone knows where it is: no name or certificate of
this machine changes. COMMAND runs in the engine's network; DOCKER_HOST says where it listens.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration import busybox, registries
from tests.integration.engines import Engine
from tests.integration.image_store import layer
from tests.integration.own_network import python_in

ENGINE = "tcp://127.0.0.1:2375"  # docker-py attaches by websocket through TCP alone
SHELL = {"Cmd": ["/bin/sh"]}
ALPINE = {
    "etc/passwd": busybox.PASSWD + b"postgres:x:70:70::/:/bin/sh\n",
    "var/opt/.keep": b"",
}  # what is used of it
IMAGES: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = {  # files above busybox's, configuration
    "alpine:3.10": (ALPINE, SHELL),
    "alpine:latest": (ALPINE, SHELL | {"Labels": {"release": "latest"}}),
    "busybox:latest": ({}, {}),
    "hello-world:latest": ({}, {"Cmd": ["echo", "Hello from Docker!"]}),
}
PROXY = """import asyncio, json, sys
from tests.fakes.forward_proxy import ForwardProxy

async def main():
    async with ForwardProxy(names=json.loads(sys.argv[1])) as proxy:
        print(proxy.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class HubEngine(Engine):
    """An engine that asks the stand-in for what it would ask the Docker Hub for."""

    def __init__(self) -> None:
        super().__init__("-H", ENGINE)
        self._hub: dict[str, str] = {}

    def environment(self) -> dict[str, str]:
        return super().environment() | self._hub

    @contextmanager
    def hub(self, root: Path) -> Iterator[None]:
        """The stand-in serves from that directory; the engine, once it is started, uses it."""
        places = {name: f"127.0.0.1:{port}" for name, port in registries.HUB.items()}
        with registries.serving(["hub"], self.network.enter, root):
            proxy = python_in(self.network.path, PROXY, json.dumps(places))
            assert proxy.stdout is not None
            try:
                address = proxy.stdout.readline().strip()
                self._hub = {"HTTPS_PROXY": f"http://{address}", "SSL_CERT_FILE": f"{root}/hub/cert.pem"}
                public = sorted({f"library/{name.partition(':')[0]}" for name in IMAGES})
                (root / "hub" / "public").write_text("\n".join(public))
                for name, (files, config) in IMAGES.items():
                    further = [layer(files)] if files else []
                    self._publish(root / "image.tar", name, busybox.archive(name, *further, **config))
                yield
            finally:
                proxy.terminate()
                proxy.communicate()

    def _publish(self, file: Path, name: str, archive: bytes) -> None:
        file.write_bytes(archive)
        way = ("env", *(f"{key}={value}" for key, value in self._hub.items()))
        copy = ("skopeo", "--insecure-policy", "copy", "-q", "--dest-creds", f"ann:{registries.PASSWORD}")
        self.run(*way, *copy, f"docker-archive:{file}", f"docker://{name}").ok()


@contextmanager
def running() -> Iterator[HubEngine]:
    """Started, with no image yet; its Hub has IMAGES."""
    engine = HubEngine()
    with tempfile.TemporaryDirectory() as root, engine.hub(Path(root)):
        engine.start()
        try:
            yield engine
        finally:
            engine.close()


def main() -> int:
    with running() as engine:
        command = [*engine.network.enter, *sys.argv[1:]]
        return subprocess.run(command, env=os.environ | {"DOCKER_HOST": ENGINE}).returncode


if __name__ == "__main__":
    sys.exit(main())
