"""The house rules, as data: who may import whom, which rooms are pure, how long a file may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "skiff"

GROUND = {"errors", "paths", "oci", "linux"}  # enough for a mechanism
NOUNS = GROUND | {"docker"}  # a noun also speaks Docker's formats
SERVING = {"engine.storage", "engine.execution", "engine.images", "engine.networks", "engine.volumes"}
ACTING = {"engine.containers", "engine.builds"}

# room → what it may import besides itself; a room is the longest prefix that stands here
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "paths": set(),
    "oci": {"errors"},
    "docker": {"errors", "oci"},
    "linux": {"errors"},
    "runtime": {"errors", "paths", "linux", "oci", "docker"},
    "client": {"errors", "oci", "docker"},
    "cli": {"errors", "oci", "docker", "client", "linux"},
    "library": {"errors", "oci", "docker", "client"},
    "engine.registry": GROUND,
    "engine.storage": GROUND,
    "engine.execution": GROUND | {"runtime.protocol", "docker"},
    "engine.images": NOUNS | {"engine.storage", "engine.registry"},
    "engine.networks": NOUNS | {"engine.storage"},
    "engine.volumes": NOUNS | {"engine.storage"},
    "engine.containers": NOUNS | SERVING,
    "engine.builds": NOUNS | SERVING - {"engine.volumes"} | {"engine.registry"},
    "engine.system": NOUNS | SERVING | ACTING | {"engine.registry", "engine.settings"},
    "engine.api": NOUNS | SERVING | ACTING | {"engine.system", "engine.settings", "engine.registry"},
    "engine.options": {"errors"},
    "engine.settings": NOUNS | {"engine.options"},
    "engine.assembly": NOUNS
    | SERVING
    | ACTING
    | {"engine.api", "engine.registry", "engine.settings", "engine.system"},
    "engine.daemon": NOUNS | {"engine.api", "engine.assembly", "engine.settings", "engine.system"},
    "engine.__main__": {"engine.daemon", "engine.options", "engine.settings", "errors"},
}

PURE = {
    "oci",
    "docker",
    "cli.case",
    "cli.completion_kinds",
    "cli.reasons",
    "cli.reasons_start",
    "cli.reasons_words",
    "engine.options",
    "engine.builds.dockerfile",
    "engine.builds.plan",
    "engine.builds.keys",
    "engine.builds.frontend",
    "engine.containers.spec",
    "engine.containers.states",
    "engine.containers.restart",
    "engine.networks.egress",
    "engine.networks.egress_rules",
    "engine.networks.ipam",
    "engine.networks.ruleset",
    "engine.system.shell",
    "engine.system.shell_netlink",
    "runtime.likeness",
    "runtime.isolation.seccomp",
    "runtime.isolation.devices",
    "runtime.isolation.cgroup",
    "runtime.isolation.root_plan",
    "runtime.isolation.root_calls",
    "runtime.isolation.entering",
    "runtime.isolation.becoming",
    "linux.calls",
}
PURE_MAY_NOT_IMPORT = {
    "os",
    "socket",
    "subprocess",
    "asyncio",
    "threading",
    "time",
    "random",
    "secrets",
    "shutil",
    "tempfile",
    "ctypes",
}
LIVES_LONG = ("runtime.zygote", "runtime.workshop", "runtime.builder", "runtime.drafter")
RUNTIME_MAY_NOT_IMPORT = {"asyncio", "threading", "subprocess", "concurrent", "aiohttp"}
LONGEST_FILE = 500
NO_SUCH_NAMES = {"utils", "util", "helpers", "common", "misc", "base", "manager"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        yield ".".join(parts), path


MODULES = list(modules())


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, lazily) for each import; `from a import b` counts as a.b where that is a module of ours."""
    ours = {name for name, _ in MODULES}
    tree = ast.parse(path.read_text())
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        lazily = id(node) not in at_top
        if isinstance(node, ast.Import):
            yield from ((alias.name, lazily) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield (deeper if deeper.removeprefix("skiff.") in ours else node.module), lazily


def room(module: str, table: dict[str, set[str]] | set[str]) -> str | None:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in table:
            return prefix
    return None


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[m for m, _ in MODULES])
def test_imports_go_down(module: str, path: Path) -> None:
    here = room(module, MAY_IMPORT)
    if here is None:
        return
    for name, _ in imports(path):
        if not name.startswith("skiff"):
            continue
        target = name.removeprefix("skiff").removeprefix(".")
        if target == here or target.startswith(here + "."):
            continue
        allowed = MAY_IMPORT[here]
        assert target == "" or room(target, allowed) is not None, f"{module} imports skiff.{target}"


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[m for m, _ in MODULES])
def test_pure_rooms_do_not_touch_the_world(module: str, path: Path) -> None:
    if room(module, PURE) is None:
        return
    for name, _ in imports(path):
        assert name.split(".")[0] not in PURE_MAY_NOT_IMPORT, f"{module} is pure but imports {name}"


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[m for m, _ in MODULES])
def test_the_runtime_is_lean_and_imports_nothing_late(module: str, path: Path) -> None:
    if not (module.startswith(("runtime.monitor", "runtime.isolation", *LIVES_LONG, "linux"))):
        return
    for name, lazily in imports(path):
        assert name.split(".")[0] not in RUNTIME_MAY_NOT_IMPORT, f"{module} imports {name}"
        assert not (lazily and module.startswith("runtime")), f"{module} imports {name} inside a function"


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[m for m, _ in MODULES])
def test_files_are_short_and_well_named(module: str, path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    assert path.stem not in NO_SUCH_NAMES
