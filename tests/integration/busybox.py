"""A small image made here: busybox with its applets, as a docker-archive. No registry is asked."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from typing import Any

NAME = "busybox:latest"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = b"root:x:0:\nnogroup:x:65534:\n"


def archive(name: str = NAME, *further: bytes, **config: Any) -> bytes:
    """The tar that `docker load` takes. further: layers above it; config: fields of its configuration."""
    layers = [_layer(), *further]
    image = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": [PATH], "Cmd": ["sh"], **config},
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers],
        },
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "busybox"}] * len(layers),
    }
    encoded = json.dumps(image).encode()
    file = hashlib.sha256(encoded).hexdigest() + ".json"
    names = ["layer.tar", *(f"layer{number}.tar" for number in range(1, len(layers)))]
    manifest = [{"Config": file, "RepoTags": [name], "Layers": names}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        _file(tar, file, encoded)
        for entry, data in zip(names, layers, strict=True):
            _file(tar, entry, data)
        _file(tar, "manifest.json", json.dumps(manifest).encode())
    return out.getvalue()


def diff_id() -> str:
    """Of its one layer."""
    return "sha256:" + hashlib.sha256(_layer()).hexdigest()


def _layer() -> bytes:
    program = shutil.which("busybox")
    if program is None:
        raise RuntimeError("the integration tests need busybox-static")
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        with open(program, "rb") as file:
            _file(tar, "bin/busybox", file.read(), 0o755)
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        _file(tar, "etc/passwd", PASSWD)
        _file(tar, "etc/group", GROUP)
    return out.getvalue()


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
