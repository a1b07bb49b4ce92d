"""Debian's docker-registry in the host network of an engine, for one who knows the password."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.engines import Engine, wait_for

ADDRESS = "127.0.0.1:5000"
USER, PASSWORD = "anna", "open sesame"
CONFIGURATION = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {root}/registry}}}}
http: {{addr: "{address}"}}
auth: {{htpasswd: {{realm: shelf, path: {root}/htpasswd}}}}
"""


@contextmanager
def serving(engine: Engine, directory: Path) -> Iterator[str]:
    """Its address. directory: a new one, for what it stores."""
    assert shutil.which("docker-registry"), "packaging/test-requirements installs docker-registry"
    directory.mkdir()
    configuration = directory / "registry.yml"
    configuration.write_text(CONFIGURATION.format(root=directory, address=ADDRESS))
    (directory / "htpasswd").write_text(engine.run("htpasswd", "-nbB", "-C", "4", USER, PASSWORD).ok())
    serve = [*engine.network.enter, "docker-registry", "serve", str(configuration)]
    registry = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ask = ("bash", "-c", f"exec 3<>/dev/tcp/{ADDRESS.replace(':', '/')}")
    try:
        wait_for(lambda: engine.run(*ask).code == 0, 20, lambda: "the registry does not answer")
        yield ADDRESS
    finally:
        registry.terminate()
        registry.wait()
