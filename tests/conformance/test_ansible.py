"""Ansible's community.docker drives skiff: what is as wished stays, what is not is changed and said so."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.registry import ADDRESS, serving
from tests.integration.engines import Engine, Run

PLAYS = Path(__file__).parent / "ansible"
DOCKERFILE = """
FROM busybox
ARG GREETING=none
RUN mkdir -p /www && echo "$GREETING from a build" > /www/index.html
"""
HOSTS = """
localhost ansible_connection=local ansible_python_interpreter={python}
[shells]
web ansible_connection=community.docker.docker
web-api ansible_connection=community.docker.docker_api ansible_host=web ansible_docker_docker_host={url}
[pythons]
py ansible_connection=community.docker.docker
py-api ansible_connection=community.docker.docker_api ansible_docker_docker_host={url}
[pythons:vars]
ansible_python_interpreter=/usr/bin/python3
"""
INVENTORY = """
plugin: community.docker.docker_containers
docker_host: {url}
connection_type: docker-cli
verbose_output: true
keyed_groups: [{{prefix: role, key: docker_config.Labels.role | default("none")}}]
"""


class Ansible:
    """Ansible's programs in the host network of an engine, with the collection of PyPI's `ansible`."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine, self.directory = engine, directory
        (directory / "context").mkdir()
        (directory / "context" / "Dockerfile").write_text(DOCKERFILE)
        self.url = f"unix://{engine.socket}"
        (directory / "hosts").write_text(HOSTS.format(python=sys.executable, url=self.url))

    def __call__(self, program: str, *words: str) -> Run:
        settings = {
            "ANSIBLE_HOME": f"{self.directory}/home",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            "ANSIBLE_PIPELINING": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment = [f"{name}={value}" for name, value in settings.items()]
        path = str(Path(sys.executable).with_name(program))
        return self.engine.run("env", *environment, path, *words, timeout=200)

    def play(self, name: str, **variables: str) -> dict[str, dict[str, int]]:
        """Per host what the recap says: ok, changed, failed …; every task must have succeeded."""
        given = {"context": f"{self.directory}/context", "registry": ADDRESS, **variables}
        extra = [word for item in given.items() for word in ("-e", "=".join(item))]
        played = self("ansible-playbook", "-i", f"{self.directory}/hosts", *extra, str(PLAYS / name))
        if played.code:
            pytest.fail(f"{name}: {played}")
        _, _, recap = played.out.rpartition("PLAY RECAP")
        return {
            line.split(" : ")[0].strip(): {
                key: int(count) for key, count in (word.split("=") for word in line.split(" : ")[1].split())
            }
            for line in recap.splitlines()[1:]
            if " : " in line
        }

    def inventory(self) -> str:
        """A file by which Ansible asks the engine for its hosts."""
        path = self.directory / "skiff.docker.yml"
        path.write_text(INVENTORY.format(url=self.url))
        return str(path)


@pytest.fixture
def ansible(own_engine: Engine, tmp_path: Path) -> Iterator[Ansible]:
    with serving(own_engine, tmp_path / "shelf"):
        yield Ansible(own_engine, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_host_is_made_as_wished(ansible: Ansible) -> None:
    first = ansible.play("state.yml")["localhost"]
    assert first["changed"] == first["ok"] - 3, first  # images pulled are here already; one is always loaded
    again = ansible.play("state.yml")["localhost"]
    assert (again["ok"], again["changed"]) == (first["ok"], 0), again

    run = ansible.engine.docker
    for name in ("py", "py-api"):
        run("run", "-d", "--name", name, "--network", "none", "host", "sleep", "600").ok()
    acts = ansible.play("acts.yml")
    assert {host: did["changed"] for host, did in acts.items()} == {
        "localhost": 2,
        "web": 0,
        "web-api": 0,
        "py": 3,
        "py-api": 3,
    }
    again_acts = ansible.play("acts.yml")
    assert {host: did["changed"] for host, did in again_acts.items()} == dict.fromkeys(acts, 0)
    assert (ansible.directory / "py-api-put").read_text() == "x" * 300000

    path = ansible.inventory()
    seen = json.loads(ansible("ansible-inventory", "-i", path, "--list").ok())
    assert sorted(seen["_meta"]["hostvars"]) == ["guest", "made", "plain", "py", "py-api", "web"]
    assert seen["role_web"]["hosts"] == ["web"]
    assert "found" in ansible("ansible", "-i", path, "plain", "-m", "raw", "-a", "echo found").ok()

    run("rm", "-f", "py", "py-api").ok()
    changed = ansible.play("changes.yml", plain=run("inspect", "--format", "{{.Id}}", "plain").ok())
    # two tasks only look
    assert changed["localhost"]["changed"] == changed["localhost"]["ok"] - 2, changed
    assert run("ps", "-aq").ok() == ""
    assert run("volume", "ls", "-q").ok() == ""
