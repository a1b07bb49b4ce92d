"""The cache that an image brings along: what changed → which steps ran on an engine that knew nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import Engine
from tests.integration.test_build_results import ran
from tests.integration.test_own_registry import serving

DOCKERFILE = """FROM busybox AS tools
RUN echo tool > /tool
FROM busybox
RUN echo one > /one
COPY f /f
ENV A=1
RUN cat /f > /g
COPY --from=tools /tool /tool
"""
# what changes → the steps that run; those of stages that the image does not stand on always do: mode=min
CHANGES = {
    "nothing": ({}, ["RUN"]),
    "a copied file": ({"f": "2"}, ["RUN", "COPY", "ENV", "RUN", "COPY"]),
    "a variable": ({"Dockerfile": DOCKERFILE.replace("A=1", "A=2")}, ["RUN", "ENV", "RUN", "COPY"]),
    "the last command": ({"Dockerfile": DOCKERFILE.replace("> /g", "> /h")}, ["RUN", "RUN", "COPY"]),
    "the first command": (
        {"Dockerfile": DOCKERFILE.replace("echo one", "echo 1")},
        ["RUN", "RUN", "COPY", "ENV", "RUN", "COPY"],
    ),
}
WAYS = {
    "an image in its registry": ("--cache-from", "{image}"),
    "a cache in a registry": ("--cache-from", "type=registry,ref={image}"),
    "an image that is here": ("--cache-from", "{image}"),
}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    write(tmp_path, {"Dockerfile": DOCKERFILE, "f": "1"})
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).write_text(text)


def forget(engine: Engine) -> None:
    """What was built here, and how."""
    engine.skiff("builder", "prune", "-af").ok()
    engine.skiff("image", "prune", "-f").ok()
    for id in engine.skiff("images", "-aq", "--filter", "dangling=true").ok().split():
        engine.skiff("rmi", "-f", id)


@pytest.fixture
def registry(own_engine: Engine) -> Iterator[str]:
    with serving(own_engine) as registry:
        yield registry.address


@pytest.mark.parametrize("way", WAYS)
def test_what_changed_and_what_ran(own_engine: Engine, registry: str, context: Path, way: str) -> None:
    image = f"{registry}/app:1"
    own_engine.skiff("build", "-t", image, "--cache-to", "type=inline", str(context)).ok()
    own_engine.skiff("push", image).ok()
    words = [word.format(image=image) for word in WAYS[way]]
    for change, (files, expected) in CHANGES.items():
        own_engine.skiff("rmi", "-f", image)
        if way == "an image that is here":
            own_engine.skiff("pull", image).ok()
        forget(own_engine)
        write(context, {"Dockerfile": DOCKERFILE, "f": "1"} | files)
        out = own_engine.skiff("build", *words, str(context)).ok()
        assert "[Warning]" not in out
        assert ran(out) == expected, change


def test_it_is_the_same_image_again(own_engine: Engine, registry: str, context: Path) -> None:
    image = f"{registry}/app:1"
    flags = ("-q", "-t", image, "--build-arg", "BUILDKIT_INLINE_CACHE=1")
    first = own_engine.skiff("build", *flags, str(context)).ok()
    own_engine.skiff("push", image).ok()
    own_engine.skiff("rmi", "-f", image).ok()
    forget(own_engine)
    assert own_engine.skiff("build", *flags, "--cache-from", image, str(context)).ok() == first


def test_what_is_made_of_the_image_does_not_inherit_it(own_engine: Engine, context: Path) -> None:
    out = own_engine.skiff("build", "-t", "app", "--build-arg", "BUILDKIT_INLINE_CACHE=1", str(context)).ok()
    assert "not consumed" not in out
    assert caches(own_engine, "app")
    write(context, {"Dockerfile": "FROM app\nENV B=1\n"})
    own_engine.skiff("build", "-t", "derived", str(context)).ok()
    own_engine.skiff("run", "--name", "one", "--network=none", "app", "true").ok()
    own_engine.skiff("commit", "one", "committed").ok()
    assert not caches(own_engine, "derived")
    assert not caches(own_engine, "committed")


def caches(engine: Engine, image: str) -> bool:
    """Whether the image has a cache inline."""
    id = engine.skiff("inspect", "--format", "{{.Id}}", image).ok().removeprefix("sha256:")
    config = json.loads(Path(engine.root, "data/content/blobs/sha256", id).read_text())
    return any("build-cache" in name for name in config)


def test_an_image_without_one_is_told(own_engine: Engine, registry: str, context: Path) -> None:
    image = f"{registry}/plain:1"
    own_engine.skiff("build", "-t", image, str(context)).ok()
    own_engine.skiff("push", image).ok()
    own_engine.skiff("rmi", "-f", image).ok()
    out = own_engine.skiff("build", "--cache-from", f"type=registry,ref={image}", str(context)).ok()
    assert f"[Warning] no cache from {image}: the image has no inline cache" in out


def test_a_squashed_image_has_none(own_engine: Engine, context: Path) -> None:
    done = own_engine.skiff("build", "--squash", "--cache-to", "type=inline", str(context))
    assert done.code != 0
    assert "a squashed image has no layers" in done.err
