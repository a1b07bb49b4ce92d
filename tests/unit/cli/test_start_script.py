"""packaging/skiff: finds interpreter and package however it was installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    for folder in ("bin", f"lib/{VERSION}/site-packages"):
        (tmp_path / "venv" / folder).mkdir(parents=True)
    venv = tmp_path / "venv"
    (venv / "bin/python").symlink_to(os.path.realpath(sys.executable))
    (venv / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(sys.executable)).parent}\n")
    shutil.copy(ROOT / "packaging/skiff", venv / "bin/skiff")
    return venv


def version(*argv: str | Path, **env: str) -> str:
    done = subprocess.run(
        [*argv, "--version"], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **env}
    )
    return done.stdout + done.stderr


def test_in_a_virtual_environment(venv: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src/skiff", venv / f"lib/{VERSION}/site-packages/skiff")
    assert version(venv / "bin/skiff").startswith("skiff version ")
    (tmp_path / "link").symlink_to(venv / "bin/skiff")
    assert version(tmp_path / "link").startswith("skiff version ")
    assert version("skiff", PATH=f"{venv}/bin:/usr/bin:/bin").startswith("skiff version ")
    assert version("sh", venv / "bin/skiff").startswith("skiff version ")


def test_an_editable_install(venv: Path) -> None:
    (venv / f"lib/{VERSION}/site-packages/_skiff.pth").write_text(f"{ROOT}/src\n")
    assert version(venv / "bin/skiff").startswith("skiff version ")
