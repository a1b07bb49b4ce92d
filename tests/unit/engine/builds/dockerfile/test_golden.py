"""Dockerfiles and their plans, in tests/unit/golden/dockerfile; `pytest --update-golden` writes the plans.

options.json, when there is one, holds fields of BuildOptions. Every image has the same config.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from skiff.engine.builds.dockerfile.errors import DockerfileError
from skiff.engine.builds.dockerfile.frontend import DockerfileFrontend
from skiff.engine.builds.frontend import BuildOptions
from skiff.engine.builds.plan import BaseImage, Missing, Plan, inputs
from skiff.oci.image import History, ImageConfig, RootFS, RunConfig
from skiff.oci.platform import Platform

GOLDEN = Path(__file__).parents[3] / "golden" / "dockerfile"
CASES = sorted(path.name for path in GOLDEN.iterdir())
HOST = Platform(architecture="amd64", os="linux")


def config_of(image: BaseImage) -> ImageConfig:
    triggers = ("RUN echo fired", "COPY . /src") if "onbuild" in image.ref else None
    return ImageConfig(
        architecture=image.platform.architecture,
        os=image.platform.os,
        rootfs=RootFS(),
        author="someone",
        config=RunConfig(env=("PATH=/usr/bin:/bin",), cmd=("sh",), on_build=triggers),
        history=(History(created_by="base"),),
    )


def planned(source: bytes, options: BuildOptions) -> Plan:
    known: dict[BaseImage, ImageConfig] = {}
    while True:
        plan = DockerfileFrontend().plan(source, options, known)
        if isinstance(plan, Plan):
            return plan
        assert isinstance(plan, Missing)
        assert not known.keys() & set(plan.images)
        known |= {image: config_of(image) for image in plan.images}


def outcome(folder: Path) -> Any:
    given = folder / "options.json"
    fields = json.loads(given.read_text()) if given.exists() else {}
    if "platform" in fields:
        os, _, architecture = fields["platform"].partition("/")
        fields["platform"] = Platform(os=os, architecture=architecture)
    if "ignore_cache" in fields:
        fields["ignore_cache"] = tuple(fields["ignore_cache"])
    options = BuildOptions(host=HOST, **fields)
    try:
        plan = planned((folder / "Dockerfile").read_bytes(), options)
    except DockerfileError as error:
        return {"error": f"{error}{error.detail}".splitlines()}
    for index, op in enumerate(plan.ops):
        assert all(needed < index for needed in inputs(op))
    return {
        "ops": [{"op": index, **msgspec.to_builtins(op)} for index, op in enumerate(plan.ops)],
        "stages": [
            {
                "name": stage.name,
                "output": stage.output,
                "steps": [
                    f"{step.number} line {step.line} op {step.op}: {step.name}" for step in stage.steps
                ],
                "author": stage.image.author,
                "config": msgspec.to_builtins(stage.image.config),
                "history": [
                    f"{'-' if entry.empty_layer else '+'} {entry.created_by}" for entry in stage.image.steps
                ],
            }
            for stage in plan.stages
        ],
        "warnings": [f"{warning.line} {warning.rule}: {warning.message}" for warning in plan.warnings],
        "unused_build_args": list(plan.unused_build_args),
    }


@pytest.mark.parametrize("case", CASES)
def test_plan(case: str, update_golden: bool) -> None:
    result = json.loads(json.dumps(outcome(GOLDEN / case)))
    golden = GOLDEN / case / "plan.json"
    if update_golden:
        golden.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    assert result == json.loads(golden.read_text())
