"""Golden cases: golden/spec/<case>/wish.json → spec.json. SKIFF_GOLDEN=update rewrites them."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from skiff.docker import wire
from skiff.docker.container import ContainerCreate
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.containers.spec import limits, merge, mounts, translate
from skiff.engine.containers.starting import machine_ground
from skiff.linux.capabilities import NAMES
from skiff.oci import runtime as oci
from skiff.oci.image import RunConfig

CASES = Path(__file__).parents[3] / "golden" / "spec"
IMAGE = RunConfig(cmd=("sh",), env=("PATH=/bin", "LANG=C"), working_dir="/srv")
ID = "c" * 64


def spec_of(wish: ContainerCreate) -> oci.Spec:
    settings = ContainerSettings()
    machine = limits.Machine(cpus="0-3", cpu_count=4)
    host = merge.with_defaults(wish.host_config, settings)
    merge.check_config(wish)
    merge.check_host(wish, host, settings)
    limits.check(host, machine)
    config = merge.merged(wish, IMAGE)
    planned = mounts.plans(host, config.volumes or {})
    found = translate.Circumstances(
        user=oci.User(additional_gids=(0,)),
        home="/root",
        host_files={"/etc/hosts": "/data/hosts"},
        shm=oci.Mount("/dev/shm", "tmpfs", "shm", ("nosuid", f"size={host.shm_size}")),
    )
    ground = machine_ground(settings, machine, NAMES)
    return translate.runtime_spec(ID, config, host, merge.command(config), planned, ground, found)


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_golden(case: str) -> None:
    wish = wire.decode((CASES / case / "wish.json").read_bytes(), ContainerCreate)
    spec = json.loads(msgspec.json.encode(spec_of(wish)))
    golden = CASES / case / "spec.json"
    if os.environ.get("SKIFF_GOLDEN") == "update":
        golden.write_text(json.dumps(spec, indent=1, sort_keys=True) + "\n")
    assert spec == json.loads(golden.read_text())
