"""The corpus of Dockerfiles in builds/*.txt, and what an image built from one comes to, as small plain JSON.

    === name flags…                a case; the flags go to `build`
    -- path mode --                a file of its context; `path/`: a directory; mode: octal, 644 or 755
    -- path -> target --           a symbolic link         -- path => other --    a hard link
    -- path tar --                 an archive; a name in each line is a file that holds its own name

What is compared: each layer above the base as a list of files (kind, mode, owner, time, name, content), the
image's configuration and history, or that it cannot be built. A time is `kept` as the context had it, `made`
by the build, or a number.
"""

import hashlib
import io
import json
import os
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HOME: Final = Path(__file__).parent / "builds"
KEPT: Final = 1_600_000_000
MADE: Final = 1_704_067_200  # when the base was made: skiff's builds of it are no older
_KINDS: Final = {
    tarfile.DIRTYPE: "d",
    tarfile.REGTYPE: "f",
    tarfile.SYMTYPE: "l",
    tarfile.LNKTYPE: "h",
    tarfile.FIFOTYPE: "p",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
}
Result = dict[str, Any]


@dataclass
class Case:
    name: str
    flags: list[str]
    files: list[tuple[str, str]] = field(default_factory=list)  # header, text

    def write(self, root: Path) -> None:
        """The context, each time in it KEPT."""
        for header, text in self.files:
            _write(root, header, text)
        for directory, _, names in os.walk(root):
            for name in (*names, ""):
                os.utime(Path(directory, name), (KEPT, KEPT), follow_symlinks=False)

    def words(self, root: Path) -> list[str]:
        """The flags, those that name a file as a path below root; the context's path last."""
        flags = [word.replace("src=", f"src={root}/") for word in self.flags]
        if "-f" in flags:
            at = flags.index("-f") + 1
            flags[at] = f"{root}/{flags[at]}"
        return [*flags, str(root)]


def cases(home: Path = HOME) -> list[Case]:
    found: list[Case] = []
    for page in sorted(home.glob("*.txt")):
        text: list[str] = []
        for line in page.read_text().splitlines(keepends=True):
            if line.startswith("=== "):
                name, *flags = shlex.split(line[4:])
                found.append(Case(name, flags))
            elif line.startswith("-- ") and line.endswith(" --\n"):
                text = []
                found[-1].files.append((line[3:-4], ""))
            else:
                text.append(line)
                found[-1].files[-1] = (found[-1].files[-1][0], "".join(text))
    return found


def _write(root: Path, header: str, text: str) -> None:
    name, arrow, target = header.partition(" -> ")
    if arrow:
        os.symlink(target, root / name)
        return
    name, arrow, target = header.partition(" => ")
    if arrow:
        os.link(root / target, root / name)
        return
    name, _, mode = header.rpartition(" ")
    if not (name and (mode in ("tar", "tgz") or mode.isdigit())):
        name, mode = header, "755" if header.endswith("/") else "644"
    path = root / name
    if name.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode in ("tar", "tgz"):
            path.write_bytes(_archive(text.split(), "w:gz" if mode == "tgz" else "w"))
            mode = "644"
        else:
            path.write_text(text)
    path.chmod(int(mode, 8))


def _archive(names: list[str], mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.uid, entry.gid, entry.mode = (
                len(name),
                1_234_567_890,
                11,
                12,
                0o640,
            )
            tar.addfile(entry, io.BytesIO(name.encode()))
    return out.getvalue()


def result(saved: bytes, base: str) -> Result:
    """What `save` gave of the image. base: the diff ID that is not shown."""
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
        (manifest,) = json.load(_member(tar, "manifest.json"))
        config = json.load(_member(tar, manifest["Config"]))
        layers = [
            sorted(_layer(_member(tar, layer)))
            for layer, diff_id in zip(manifest["Layers"], config["rootfs"]["diff_ids"], strict=True)
            if diff_id != base
        ]
    return {
        "config": config.get("config"),
        "author": config.get("author"),
        "platform": [config["os"], config["architecture"]],
        "history": [
            [entry.get("created_by"), entry.get("comment"), entry.get("empty_layer", False)]
            for entry in config.get("history", ())
        ],
        "layers": layers,
    }


def _member(tar: tarfile.TarFile, name: str) -> io.BufferedReader:
    found = tar.extractfile(name)
    assert found is not None, name
    return found  # type: ignore[return-value]


def _layer(file: io.BufferedReader) -> Iterator[str]:
    with tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        for entry in tar:
            name = "/" + entry.name.strip("/").removeprefix("./")
            if name.rpartition("/")[2].startswith(".wh."):
                yield name  # what is gone has nothing but its name
                continue
            kind = _KINDS[entry.type]
            detail = ""
            if kind == "f" and entry.size:
                content = tar.extractfile(entry)
                assert content is not None
                data = content.read()
                detail = f" {len(data)} {hashlib.sha256(data).hexdigest()[:12]}"
            elif kind == "l":
                detail = f" -> {entry.linkname}"
            elif kind == "h":
                detail = f" => /{entry.linkname.removeprefix('/')}"
            attributes = (f" {key}" for key in sorted(entry.pax_headers) if key.startswith("SCHILY.xattr"))
            yield (
                f"{name} {kind} {entry.mode:o} {entry.uid}:{entry.gid} {_time(entry.mtime)}{detail}"
                + "".join(attributes)
            )


def _time(seconds: float) -> str:
    if int(seconds) == KEPT:
        return "kept"
    return "made" if seconds >= MADE else str(int(seconds))
