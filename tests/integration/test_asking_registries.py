"""What registries say without a pull: search, distribution, manifests, referrers. Against Debian's own."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.conftest import Cli
from tests.integration.engines import Engine, Run, wait_for
from tests.integration.image_store import layer, layout

pytestmark = [
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="needs Debian's docker-registry"),
    pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo"),
]
REGISTRY = "127.0.0.1:5081"
INDEX_SERVER = """
import http.server, json
HITS = [("busybox", "Busybox base image.", 3000, True, False), ("low", "", 0, False, False),
        ("team/busy", "A very long description that goes on and on, well beyond what fits into\\n forty five columns", 7, False, True)]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = [dict(zip(("name", "description", "star_count", "is_official", "is_automated"), hit)) for hit in HITS]
        known = self.path == "/v1/search?q=b%20u&n=25"
        body = json.dumps({"results": found} if known else {"path": self.path}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 5082), Handler).serve_forever()
"""  # noqa: E501


@pytest.fixture(scope="module")
def registry(_session_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine beside a registry that holds `team/one:1` and the index `team/many:1`, and a v1 index."""
    engine, root = _session_engine, tmp_path_factory.mktemp("registry")
    (root / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\n"
        f"http: {{addr: '{REGISTRY}'}}\n"
    )
    (root / "index.py").write_text(INDEX_SERVER)
    servers = [
        subprocess.Popen(
            [*engine.network.enter, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for words in (("docker-registry", "serve", f"{root}/config.yml"), ("python3", f"{root}/index.py"))
    ]
    try:
        for port in ("5081", "5082"):
            ask = partial(engine.run, "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")
            wait_for(partial(_succeeds, ask), 20, lambda: "a server does not answer")
        layout(root / "one", [layer({"a": b"a"})])
        layout(root / "many", [layer({"a": b"a"})], ("amd64", "arm64"))
        for name in ("one", "many"):
            copy = ("skopeo", "copy", "-q", "--all", "--dest-tls-verify=false")
            engine.run(*copy, f"oci:{root}/{name}", f"docker://{REGISTRY}/team/{name}:1").ok()
        yield engine
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def _succeeds(ask: Callable[[], Run]) -> bool:
    return ask().code == 0


def test_search_asks_the_index(registry: Engine, cli: Cli) -> None:
    assert cli("search", "127.0.0.1:5082/b u").ok().split("\n") == [
        "NAME        DESCRIPTION                                     STARS     OFFICIAL",
        "busybox     Busybox base image.                             3000      [OK]",
        "low                                                         0         ",
        "team/busy   A very long description that goes on and on,…   7         ",
    ]
    some = cli("search", "--filter", "stars=5", "--filter", "is-official=false", "--no-trunc",
               "--format", "{{.Name}}: {{.Description}}", "127.0.0.1:5082/b u")  # fmt: skip
    assert some.ok().startswith(
        "team/busy: A very long description that goes on and on, well beyond what fits"
    )
    assert some.ok().endswith("into  forty five columns")
    one = cli("search", "--filter", "is-official=true", "--format", "json", "127.0.0.1:5082/b u").ok()
    assert json.loads(one) == {
        "Description": "Busybox base image.",
        "IsOfficial": "true",
        "Name": "busybox",
        "StarCount": "3000",
    }
    for words, reason in (
        (("--limit", "200"), "Error response from daemon: limit 200 is outside the range of [1, 100]\n"),
        (("--filter", "foo=1"), "Error response from daemon: invalid filter 'foo'\n"),
        (
            ("--filter", "stars=x"),
            "Error response from daemon: invalid filter 'stars=x':"
            ' strconv.Atoi: parsing "x": invalid syntax\n',
        ),
        (("--filter", "is-official=x"), "Error response from daemon: invalid filter 'is-official=[x]'\n"),
    ):
        refused = cli("search", *words, "127.0.0.1:5082/b u")
        assert (refused.code, refused.err) == (1, reason)


def test_search_reads_the_catalog_of_a_private_registry(registry: Engine, cli: Cli) -> None:
    found = cli("search", "--format", "{{.Name}}", f"{REGISTRY}/team").ok()
    assert found == "team/many\nteam/one"
    assert cli("search", "--format", "{{.Name}}", "--limit", "1", f"{REGISTRY}/team").ok() == "team/many"
    assert cli("search", "--format", "{{.Name}}", f"{REGISTRY}/nothing").ok() == ""


def test_distribution_inspect(registry: Engine) -> None:
    many = registry.client.get(f"/distribution/{REGISTRY}/team/many:1/json").json()
    assert many["Platforms"] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    assert many["Descriptor"]["mediaType"] == "application/vnd.oci.image.index.v1+json"
    one = registry.client.get(f"/distribution/{REGISTRY}/team/one:1/json").json()
    assert one["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    assert one["Descriptor"].keys() == {"mediaType", "digest", "size"}
    missing = registry.client.get(f"/distribution/{REGISTRY}/team/one:none/json")
    assert (missing.status, missing.json()) == (404, {"message": "manifest unknown: manifest unknown"})
    nobody = registry.client.get("/distribution/127.0.0.1:5083/x:1/json")
    assert nobody.json() == {
        "message": 'Get "http://127.0.0.1:5083/v2/": dial tcp 127.0.0.1:5083: connect: connection refused'
    }
    upper = registry.client.get("/distribution/UPPER/json")
    assert upper.json() == {
        "message": "invalid reference format: repository name (library/UPPER) must be lowercase"
    }


@pytest.mark.parametrize("name", ["one:1", "many:1"])
@pytest.mark.parametrize("words", [(), ("-v",)])
def test_manifest_inspect_prints_what_docker_prints(
    registry: Engine, name: str, words: tuple[str, ...]
) -> None:
    image = f"{REGISTRY}/team/{name}"
    dockers = registry.docker("manifest", "inspect", "--insecure", *words, image).ok()
    assert registry.skiff("manifest", "inspect", *words, image).ok() == dockers
    missing = registry.skiff("manifest", "inspect", f"{REGISTRY}/team/one:none")
    assert (missing.code, missing.err) == (1, f"no such manifest: {REGISTRY}/team/one:none\n")


def test_referrers_are_shown(engine: Engine, tmp_path: Path) -> None:
    from tests.integration.test_own_registry import serving

    with serving(engine) as own:
        layout(tmp_path / "image", [layer({"a": b"signed"})])
        where = f"{own.address}/signed/app:1"
        engine.run(
            "skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{tmp_path}/image", f"docker://{where}"
        ).ok()
        subject = own.ask("HEAD", "/v2/signed/app/manifests/1").headers
        pointer = {
            "mediaType": subject["content-type"],
            "digest": subject["docker-content-digest"],
            "size": int(subject["content-length"]),
        }
        document, digest = own.artifact("signed/app", b"signature", subject=pointer)
        assert own.put_manifest("signed/app", digest, document).status == 201
        engine.skiff("pull", "-q", where).ok()
        for name in ("signed/app:1", where):
            shown = json.loads(engine.skiff("image", "inspect", "-f", "{{json .Referrers}}", name).ok())
            assert [(one["digest"], one["artifactType"]) for one in shown] == [
                (digest, "application/vnd.example")
            ]
        for name in (where, "signed/app:1"):
            engine.skiff("rmi", name).ok()
    assert "Referrers" not in engine.client.get("/images/busybox/json").json()
