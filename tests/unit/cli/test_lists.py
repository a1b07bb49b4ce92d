"""Lists against what Docker's own command line printed for the same replies of the engine."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.cli import container_list, image_history, image_list, info, network, usage, volume
from skiff.cli.table import FormatError, Listing, aligned, render

GOLDEN = Path(__file__).parent / "golden"
NOW = float((GOLDEN / "now").read_text())


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def reply(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def printed(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text()


def containers(*, truncate: bool = True, size: bool = False) -> Listing:
    return container_list.listing(truncate=truncate, size=size, now=NOW)


def test_ps() -> None:
    assert render(containers(), reply("ps")) == printed("ps")


def test_ps_with_sizes_and_whole_ids() -> None:
    assert render(containers(truncate=False, size=True), reply("ps_size")) == printed("ps_size")


def test_images() -> None:
    listing = image_list.listing(truncate=True, digests=False, now=NOW)
    rows = list(image_list.rows(reply("images"), digests=False))
    assert sorted(render(listing, rows).splitlines()) == sorted(printed("images").splitlines())
    as_json = render(listing, rows, form="json")
    assert sorted(as_json.splitlines()) == sorted(printed("images_json").splitlines())


def test_history() -> None:
    listing = image_history.history_listing(human_readable=True, truncate=True, now=NOW)
    assert render(listing, reply("history")) == printed("history")


def test_networks_and_volumes() -> None:
    networks = sorted(reply("networks"), key=lambda n: n["Name"])
    assert render(network.listing(truncate=True), networks) == printed("networks")
    volumes = sorted(reply("volumes")["Volumes"], key=lambda v: v["Name"])
    assert render(volume.listing(), volumes) == printed("volumes")


def test_disk_usage() -> None:
    assert render(usage.LISTING, usage.summary(reply("df"))) == printed("df")
    assert usage.verbose(reply("df"), NOW) == printed("df_verbose")


def test_info() -> None:
    expected = printed("info").partition("Server:\n")[2].rstrip("\n").splitlines()
    assert list(info.server(reply("info"))) == expected


def test_quiet_gives_way_to_a_format() -> None:
    ids = [container["Id"][:12] for container in reply("ps")]
    assert render(containers(), reply("ps"), quiet=True).split() == ids
    assert render(containers(), reply("ps"), quiet=True, form="table").split() == ids
    assert "f2-a\n" in render(containers(), reply("ps"), quiet=True, form="{{.Names}}")


def test_a_template_with_headers() -> None:
    text = render(
        containers(), reply("ps")[-1:], form=r'table {{.ID}}\t{{.Label "com.x.foo-bar"}}\t{{upper .Names}}'
    )
    assert text == "CONTAINER ID   foo bar   NAMES\nd6f5fd6a2f1a             F2-A\n"


def test_a_template_without() -> None:
    text = render(containers(), reply("ps")[-1:], form='{{.Names}}:{{.Label "x"}}:{{json .Labels}}')
    assert text == 'f2-a:y:"a=b,x=y,z=1 2"\n'


def test_wrong_templates() -> None:
    with pytest.raises(FormatError, match='template parsing error: template: :1: function "foo" not defined'):
        render(containers(), [], form="{{foo}}")
    with pytest.raises(FormatError, match=r"can't evaluate field Foo in type \*formatter.ContainerContext"):
        render(containers(), reply("ps"), form="{{.Foo}}")


@pytest.mark.parametrize(
    ("given_ports", "shown"),
    [
        ([], ""),
        ([(80, 0, "")], "80/tcp"),
        ([(80, 8080, "0.0.0.0")], "0.0.0.0:8080->80/tcp"),
        ([(80, 8080, "::")], "[::]:8080->80/tcp"),
        ([(80, 80, "0.0.0.0"), (81, 81, "0.0.0.0")], "0.0.0.0:80-81->80-81/tcp"),
        ([(80, 0, ""), (81, 0, ""), (83, 0, "")], "80-81/tcp, 83/tcp"),
        ([(443, 0, ""), (80, 8080, "0.0.0.0")], "443/tcp, 0.0.0.0:8080->80/tcp"),
    ],
)
def test_ports(given_ports: list[tuple[int, int, str]], shown: str) -> None:
    ports = [
        {"PrivatePort": private, "Type": "tcp"} | ({"PublicPort": public, "IP": ip} if public else {})
        for private, public, ip in given_ports
    ]
    assert container_list.ports(ports) == shown


def test_an_image_known_by_digest_alone() -> None:
    found: list[dict[str, Any]] = [
        {"Id": "sha256:1", "RepoTags": [], "RepoDigests": ["a/b@sha256:2"]},
        {"Id": "sha256:3", "RepoTags": None},
    ]
    rows = list(image_list.rows(found, digests=True))
    assert [(row["Repository"], row["Tag"], row["Digest"]) for row in rows] == [
        ("a/b", "<none>", "sha256:2"),
        ("<none>", "<none>", "<none>"),
    ]


def test_a_registry_with_a_port_is_no_tag() -> None:
    found: list[dict[str, Any]] = [{"Id": "sha256:1", "RepoTags": ["host:5000/a:1"], "RepoDigests": None}]
    row = next(image_list.rows(found, digests=False))
    assert (row["Repository"], row["Tag"]) == ("host:5000/a", "1")


@given(st.lists(st.lists(st.text(alphabet="ab é", max_size=12), min_size=1, max_size=4), max_size=6))
def test_columns_never_touch(rows: list[list[str]]) -> None:
    lines = aligned(rows).splitlines()
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line.endswith(row[-1])
        assert len(line) >= sum(map(len, row)) + 3 * (len(row) - 1)
