"""What builds take and give beside the image store: outputs, caches, agents, checks, entitlements."""

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.integration.engines import Engine

DOCKERFILE = (
    "FROM busybox AS b\nRUN echo built > /out && chmod 640 /out\nFROM scratch\nCOPY --from=b /out /d/out\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(DOCKERFILE)
    return tmp_path / "context"


def images(engine: Engine) -> set[str]:
    return {image["Id"] for image in engine.client.get("/images/json", all=True).json()}


def test_a_directory_and_a_tar_leave_no_image(engine: Engine, root: Path, tmp_path: Path) -> None:
    before = images(engine)
    engine.skiff("build", "-o", f"{tmp_path}/out", str(root)).ok()
    assert (tmp_path / "out/d/out").read_text() == "built\n"
    assert (tmp_path / "out/d/out").stat().st_mode & 0o777 == 0o640
    tar = engine.skiff("build", "-q", "-o", "type=tar,dest=-", str(root))
    assert tar.code == 0, tar.err
    assert "d/out" in tar.out
    engine.skiff("build", "-o", f"type=tar,dest={tmp_path}/x.tar", str(root)).ok()
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert archive.getnames() == ["d", "d/out"]
    assert images(engine) == before


def test_archives_carry_the_names_asked_for(engine: Engine, root: Path, tmp_path: Path) -> None:
    before = images(engine)
    engine.skiff("build", "-t", "carried:1", "-o", f"type=docker,dest={tmp_path}/d.tar", str(root)).ok()
    with tarfile.open(tmp_path / "d.tar") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] == ["carried:1"]
    engine.skiff("build", "-o", f"type=oci,dest={tmp_path}/layout,tar=false", str(root)).ok()
    assert json.loads((tmp_path / "layout/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert images(engine) == before
    engine.skiff("build", "-t", "carried:2", "--load", str(root)).ok()
    assert engine.skiff("inspect", "--format", "{{.RepoTags}}", "carried:2").ok() == "[carried:2]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "type=nothing"), "no output of type nothing"),
        (("-o", "dest=x"), "type is required for output"),
        (("-o", "type=local"), "dest is required for local output"),
        (("--cache-to", "type=gha"), "exports no cache of type 'gha'"),
        (("--cache-from", "type=s3,bucket=x"), "takes no cache of type 's3'"),
        (("--push",), "tag is needed when pushing to registry"),
        (("--build-context", "x=/no/such/directory"), "no such directory"),
        (("--ssh", "default=/no/such/socket"), "no such file or directory"),
        (("--allow", "everything"), "invalid entitlement: everything"),
    ],
)
def test_what_cannot_be_is_refused(engine: Engine, root: Path, words: tuple[str, ...], said: str) -> None:
    done = engine.skiff("build", *words, str(root))
    assert done.code != 0
    assert said in done.err


CACHED = """FROM busybox AS side
RUN echo side > /side
FROM busybox
RUN echo main > /main
ENV A=1
COPY --from=side /side /s
"""


def ran(out: str) -> list[str]:
    """The steps that were not cached."""
    found, step = [], ""
    for line in out.splitlines():
        if line.startswith("Step "):
            step = line.partition(" : ")[2]
        elif "Using cache" in line:
            step = ""
        elif line.startswith(" ---> Running in") or (line.startswith(" ---> ") and step.startswith("COPY")):
            found.append(step.split()[0])
            step = ""
    return found


@pytest.mark.parametrize(("mode", "expected"), [("max", []), ("min", ["RUN"])])
def test_a_cache_in_a_directory(
    engine: Engine, own_engine: Engine, tmp_path: Path, mode: str, expected: list[str]
) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(CACHED)
    context = str(tmp_path / "context")
    to = f"type=local,dest={tmp_path}/cache,mode={mode}"
    first = engine.skiff("build", "--no-cache", "-q", "--cache-to", to, context).ok()
    # an engine that has never built it
    out = own_engine.skiff("build", "--cache-from", f"type=local,src={tmp_path}/cache", context).ok()
    assert ran(out) == expected
    assert first.removeprefix("sha256:")[:12] in out
    (tmp_path / "context/Dockerfile").write_text(CACHED.replace("A=1", "A=2"))
    out = own_engine.skiff("build", "--cache-from", f"type=local,src={tmp_path}/cache", context).ok()
    assert "RUN" not in ran(out)


def test_a_damaged_cache_is_told_and_not_used(engine: Engine, own_engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM busybox\nRUN echo damaged > /x\n")
    context, cache = str(tmp_path / "context"), tmp_path / "cache"
    engine.skiff("build", "--no-cache", "-q", "--cache-to", f"type=local,dest={cache}", context).ok()
    for blob in (cache / "blobs/sha256").iterdir():
        if blob.read_bytes().startswith(b"\x1f\x8b"):
            blob.write_bytes(blob.read_bytes()[:-40])
    out = own_engine.skiff("build", "--cache-from", f"type=local,src={cache}", context).ok()
    assert "[Warning] the cache cannot be used" in out
    assert ran(out) == ["RUN"]
    (cache / "index.json").write_text("{}")
    out = own_engine.skiff("build", "--no-cache", "--cache-from", f"type=local,src={cache}", context).ok()
    assert "[Warning] no cache from" in out


PROGRAMS = ("ssh-agent", "ssh-add", "ssh-keygen", "ldd")
needs_ssh = pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="needs openssh-client")


@pytest.fixture
def keyed(tmp_path: Path) -> tuple[Path, str, Path]:
    """A context whose step lists the agent's keys by the ssh-add of this machine; the step; a key."""
    key, context = tmp_path / "key", tmp_path / "context"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    context.mkdir()
    program = shutil.which("ssh-add")
    assert program is not None
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    libraries = [word for word in listed.split() if word.startswith("/")]
    loader = next(Path(library).name for library in libraries if "ld-" in library)
    for path in (program, *libraries):
        shutil.copy(path, context)
    (context / "Dockerfile").write_text(
        "FROM busybox\nCOPY . /l\n"
        f"RUN --mount=type=ssh /l/{loader} --library-path /l /l/ssh-add -L\n"
        'RUN --mount=type=ssh,id=other test -z "$SSH_AUTH_SOCK"\n'
        'RUN test -z "$SSH_AUTH_SOCK" && test ! -e /run/buildkit\n'
    )
    return context, key.with_suffix(".pub").read_text().split()[1], key


@needs_ssh
def test_an_agent_is_reached_from_a_step(
    engine: Engine, tmp_path: Path, keyed: tuple[Path, str, Path]
) -> None:
    context, public, key = keyed
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        environment = {"SSH_AUTH_SOCK": str(path), "PATH": os.environ["PATH"]}
        subprocess.run(["ssh-add", "-q", key], check=True, env=environment)
        out = engine.skiff("build", "--no-cache", "--ssh", f"default={path}", str(context)).ok()
    finally:
        process.kill()
        process.communicate()
    assert public in out


@needs_ssh
def test_keys_are_given_by_an_agent_of_the_build(engine: Engine, keyed: tuple[Path, str, Path]) -> None:
    context, public, key = keyed
    assert public in engine.skiff("build", "--no-cache", "--ssh", f"default={key}", str(context)).ok()


def test_a_required_agent_is_missed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN --mount=type=ssh,required true\n")
    done = engine.skiff("build", "--no-cache", str(tmp_path))
    assert done.code == 1
    assert "ssh forward key default" in done.err


def test_a_check_says_what_docker_says(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nENV A b\nCMD echo hi\n")
    done = engine.skiff("build", "--check", str(tmp_path))
    assert done.code == 1
    assert (
        done.out.startswith(
            "Check complete, 2 warnings have been found!\n\n"
            "WARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/\n"
            '"ENV key=value" should be used instead of legacy "ENV key value" format\n'
            "Dockerfile:2\n"
            "--------------------\n"
            "   1 |     FROM busybox\n"
            "   2 | >>> ENV A b\n"
            "   3 |     CMD echo hi\n"
            "   4 |     \n"
            "--------------------\n"
        )
        or "ConsistentInstructionCasing" in done.out
    )
    (tmp_path / "Dockerfile").write_text('FROM busybox\nCMD ["a"]\n')
    done = engine.skiff("build", "--check", str(tmp_path))
    assert (done.code, done.out) == (0, "Check complete, no warnings found.\n")
    (tmp_path / "Dockerfile").write_text("# check=error=true\nFROM busybox\nCMD a\n")
    done = engine.skiff("build", "--check", str(tmp_path))
    assert done.code == 1
    assert "ERROR: lint violation found for rules: JSONArgsRecommended" in done.err


@pytest.mark.parametrize(
    ("flag", "name"), [("--security=insecure", "security.insecure"), ("--network=host", "network.host")]
)
def test_privileges_are_granted_by_the_person_alone(
    engine: Engine, tmp_path: Path, flag: str, name: str
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN {flag} true\n")
    done = engine.skiff("build", str(tmp_path))
    assert done.code == 1
    assert f"{name} is not allowed" in done.err
    engine.skiff("build", "--allow", name, str(tmp_path)).ok()


def test_metadata_and_ids(engine: Engine, root: Path, tmp_path: Path) -> None:
    engine.skiff(
        "build", "-t", "meta", "--iidfile", f"{tmp_path}/id", "--metadata-file", f"{tmp_path}/meta", str(root)
    ).ok()
    id = engine.skiff("inspect", "--format", "{{.Id}}", "meta").ok()
    assert (tmp_path / "id").read_text() == id
    meta = json.loads((tmp_path / "meta").read_text())
    assert meta == {
        "containerimage.config.digest": id,
        "containerimage.digest": id,
        "image.name": "meta",
    }


def test_rawjson_is_what_the_engine_says(engine: Engine, root: Path) -> None:
    out = engine.skiff("build", "--progress=rawjson", str(root)).ok()
    events = [json.loads(line) for line in out.splitlines()]
    assert any("aux" in event for event in events)
    assert any(event.get("stream", "").startswith("Step 1/") for event in events)


def test_a_stdin_archive_is_no_tree(engine: Engine) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        data = b"FROM busybox\nCOPY . /c\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    engine.skiff("build", "-", input=out.getvalue()).ok()
    assert "Successfully built" in engine.skiff("build", "-", input=b"FROM busybox\nENV A=1\n").ok()


def test_files_come_from_the_host_but_nothing_stands_on_it(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY --from=host /etc/passwd /passwd\n")
    engine.skiff("build", "-o", f"{tmp_path}/out", str(tmp_path)).ok()
    assert (tmp_path / "out/passwd").read_bytes() == Path("/etc/passwd").read_bytes()
    (tmp_path / "Dockerfile").write_text("FROM host\nRUN true\n")
    done = engine.skiff("build", str(tmp_path))
    assert done.code == 1
    assert "no layer can stand on the image host" in done.err
