"""Docker Compose v1, as Debian ships it: projects, and what their services need of each other."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import Engine, Run

PROJECT = """
version: "2.4"
services:
  web:
    build: {context: web, args: {GREETING: hello}}
    depends_on:
      db: {condition: service_healthy}
    links: ["db:database"]
    networks: [front, back]
    ports: ["8080"]
    environment: {TOWN: "${TOWN:-Ulm}"}
    volumes: ["pages:/www/data", "/cache", "./web:/source:ro"]
    init: true
  db:
    image: busybox
    command: sh -c "echo rows > /var/lib/db/state; exec nc -ll -p 5432 -e cat /var/lib/db/state"
    volumes: ["rows:/var/lib/db"]
    networks: {back: {aliases: [store], ipv4_address: 172.30.7.9}}
    healthcheck: {test: [CMD, test, -s, /var/lib/db/state], interval: 500ms, retries: 40}
    stop_signal: SIGKILL
  side:
    image: busybox
    network_mode: "service:web"
    command: wget -qO- http://localhost:8080/index.html
    depends_on: [web]
networks:
  front:
  back: {ipam: {config: [{subnet: 172.30.7.0/24}]}, labels: {kind: inner}}
volumes:
  pages:
  rows: {labels: {kind: rows}}
"""
DOCKERFILE = """
FROM busybox
ARG GREETING=none
RUN mkdir -p /www && echo "$GREETING from a build" > /www/index.html
EXPOSE 8080
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"""


class Project:
    """A directory with a docker-compose.yml, and the program that reads it."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine, self.directory = engine, directory
        (directory / "web").mkdir()
        (directory / "web" / "Dockerfile").write_text(DOCKERFILE)
        self.write(PROJECT)

    def write(self, text: str) -> None:
        (self.directory / "docker-compose.yml").write_text(text)

    def __call__(self, *words: str, **environment: str) -> Run:
        compose = ("docker-compose", "--ansi", "never", "--project-name", "shop")
        place = ("--project-directory", str(self.directory), "-f", f"{self.directory}/docker-compose.yml")
        settings = [f"{name}={value}" for name, value in environment.items()]
        return self.engine.run("env", *settings, *compose, *place, *words, timeout=100)

    def containers(self) -> list[str]:
        """The short ids of the project's containers, as docker has them."""
        label = "label=com.docker.compose.project=shop"
        return sorted(self.engine.docker("ps", "-aq", "--filter", label).ok().split())

    def id_of(self, service: str) -> str:
        return self("ps", "-q", service).ok()


@pytest.fixture
def shop(engine: Engine, tmp_path: Path) -> Iterator[Project]:
    assert shutil.which("docker-compose"), "packaging/test-requirements installs docker-compose"
    project = Project(engine, tmp_path)
    yield project
    project("down", "-v", "--remove-orphans", "--rmi", "local", "-t", "0").ok()


def test_a_project_from_build_to_down(shop: Project) -> None:
    engine = shop.engine
    shop("config", "-q").ok()
    built = shop("build", "web").ok()
    assert "Successfully tagged shop_web:latest" in built
    up = shop("up", "-d", "web")
    assert up.code == 0, up
    for line in (
        'Creating network "shop_back"',
        'Creating volume "shop_rows"',
        "Creating shop_web_1 ... done",
    ):
        assert line in up.err, up.err

    # web waited for a healthy db; it finds it by its service, its link and its alias
    found = shop(
        "exec", "-T", "web", "sh", "-c", "for h in db database store; do nc $h 5432; done </dev/null"
    )
    assert found.ok().split() == ["rows"] * 3
    assert shop("exec", "-T", "web", "sh", "-c", "echo $TOWN; ls /source").ok() == "Ulm\nDockerfile"
    port = shop("port", "web", "8080").ok().removeprefix("0.0.0.0:")
    page = engine.run("busybox", "wget", "-qO-", f"http://127.0.0.1:{port}/index.html")
    assert page.ok() == "hello from a build"
    assert shop("run", "--rm", "-T", "side").ok() == "hello from a build"
    rows = shop("ps").ok().splitlines()[2:]
    assert [row.split()[0] for row in rows] == ["shop_db_1", "shop_web_1"]
    assert "Up (healthy)" in rows[0] and f"0.0.0.0:{port}->8080/tcp" in rows[1], rows
    assert "httpd -f -p 8080" in shop("top", "web").ok()

    engine.docker("network", "inspect", "--format", "{{.Labels.kind}}", "shop_back").ok()
    down = shop("down", "-v", "--rmi", "local", "-t", "0")
    assert down.code == 0 and "Removing volume shop_rows" in down.err, down
    assert shop.containers() == []
    assert "shop" not in engine.docker("network", "ls").ok() + engine.docker("volume", "ls").ok()
    assert "shop_web" not in engine.docker("images").ok()


def test_up_again_makes_anew_only_what_changed(shop: Project) -> None:
    shop("up", "-d", "web").ok()
    before = shop.containers()
    again = shop("up", "-d", "web")
    assert "shop_db_1 is up-to-date" in again.err and "shop_web_1 is up-to-date" in again.err, again
    assert shop.containers() == before

    shop("exec", "-T", "web", "sh", "-c", "echo kept > /cache/x; echo kept > /www/data/x").ok()
    db = shop.id_of("db")
    changed = shop("up", "-d", "web", TOWN="Bonn")
    assert "Recreating shop_web_1 ... done" in changed.err, changed
    assert shop.id_of("db") == db
    # a recreated container has the anonymous volumes of the one before it
    kept = shop("exec", "-T", "web", "sh", "-c", "cat /cache/x /www/data/x; echo $TOWN", TOWN="Bonn")
    assert kept.ok() == "kept\nkept\nBonn"


def test_scaled_stopped_and_started(shop: Project) -> None:
    shop("up", "-d", "--scale", "web=3", "web").ok()
    assert len(shop.id_of("web").split()) == 3
    addresses = shop("exec", "-T", "db", "nslookup", "-type=a", "web").ok()
    assert addresses.count("Address: 172.30.7.") == 3, addresses
    assert shop("exec", "-T", "--index=3", "web", "hostname").ok() == shop.id_of("web").split()[2][:12]
    shop("up", "-d", "--scale", "web=1", "web").ok()
    assert len(shop.id_of("web").split()) == 1
    web = shop.id_of("web")

    for words, status in (
        (("pause", "web"), "paused"),
        (("unpause", "web"), "running"),
        (("restart", "-t", "0", "web"), "running"),
        (("kill", "web"), "exited"),
        (("start", "web"), "running"),
        (("stop", "-t", "0", "web"), "exited"),
    ):
        shop(*words).ok()
        state = shop.engine.docker("inspect", "--format", "{{.State.Status}}", web).ok()
        assert state == status, words
    shop("rm", "-f", "web").ok()
    assert shop("ps", "-q", "-a", "web").ok() == ""


def test_logs_and_the_exit_code_of_a_foreground_project(shop: Project) -> None:
    shop.write("""
version: "2.4"
services:
  work: {image: busybox, command: "sh -c 'echo working; sleep 0.3; echo sorry >&2; exit 3'"}
  wait: {image: busybox, command: "sh -c 'echo waiting; exec sleep 600'", stop_grace_period: 0s}
""")
    up = shop("up", "--no-color", "--exit-code-from", "work")
    assert up.code == 3, up
    assert (
        "work_1  | working\n" in up.out and "work_1  | sorry\n" in up.out and "wait_1  | waiting\n" in up.out
    )
    assert "work_1 exited with code 3" in up.out.replace("shop_", "")
    logs = shop("logs", "--no-color", "--tail", "1").ok()
    assert "sorry" in logs and "waiting" in logs and "working" not in logs
    listed = shop("ps", "-a").ok()
    assert "Exit 3" in listed and "Exit 137" in listed, listed


def test_what_exists_already_is_used_and_stays(shop: Project) -> None:
    engine = shop.engine
    engine.docker("network", "create", "town").ok()
    engine.docker("volume", "create", "attic").ok()
    try:
        shop.write("""
version: "3.8"
services:
  app:
    image: busybox
    command: sleep 600
    networks: [default, town]
    volumes: ["attic:/attic"]
    tmpfs: ["/scratch:size=1m"]
    cap_drop: [ALL]
    read_only: true
    user: "1000:1000"
    extra_hosts: ["elsewhere:192.0.2.9"]
    dns_search: [example.org]
    sysctls: {net.core.somaxconn: 77}
    ulimits: {nofile: {soft: 100, hard: 200}}
    logging: {driver: json-file, options: {max-size: 1m}}
networks:
  town: {external: true}
volumes:
  attic: {external: true}
""")
        shop("up", "-d").ok()
        script = (
            "id -u; ulimit -n; ulimit -Hn; cat /proc/sys/net/core/somaxconn;"
            "grep elsewhere /etc/hosts | cut -f1; grep -c example.org /etc/resolv.conf;"
            "grep -c ' /scratch tmpfs .*size=1024k' /proc/mounts;"
            "touch /x 2>/dev/null || echo read-only; ls -d /sys/class/net/eth* | wc -l;"
            "grep CapEff /proc/self/status | cut -f2"
        )
        lines = shop("exec", "-T", "app", "sh", "-c", script).ok().split()
        assert lines == ["1000", "100", "200", "77", "192.0.2.9", "1", "1", "read-only", "2", "0" * 16]
        shop("down", "-v", "-t", "0").ok()
        assert "attic" in engine.docker("volume", "ls").ok()
        assert "town" in engine.docker("network", "ls").ok()
    finally:
        shop("down", "-v", "-t", "0").ok()
        engine.docker("network", "rm", "town").ok()
        engine.docker("volume", "rm", "attic").ok()
