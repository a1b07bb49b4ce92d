import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.errors import InvalidParameter, NotFound, NotImplementedHere, SkiffError
from skiff.oci import manifest
from skiff.oci.digest import Digest
from skiff.oci.manifest import Descriptor, Index, Manifest, choose, encode, parse
from skiff.oci.platform import Platform

SHA = Digest("sha256:" + "ab" * 32)
CONFIG = {"mediaType": manifest.OCI_CONFIG, "digest": SHA, "size": 2}
LAYER = {"mediaType": manifest.OCI_LAYER_GZIP, "digest": SHA, "size": 3}
IMAGE = {"schemaVersion": 2, "mediaType": manifest.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}


def entry(number: int, platform: dict[str, str] | None, **more: Any) -> dict[str, Any]:
    one = {"mediaType": manifest.OCI_MANIFEST, "digest": f"sha256:{number:064x}", "size": 1} | more
    return one | ({"platform": platform} if platform else {})


def index(*entries: dict[str, Any]) -> Index:
    found = parse(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    assert isinstance(found, Index)
    return found


def test_both_families_parse_to_the_same_types() -> None:
    ours = parse(json.dumps(IMAGE).encode(), manifest.OCI_MANIFEST)
    theirs = parse(json.dumps(IMAGE | {"mediaType": manifest.DOCKER_MANIFEST}).encode())
    assert isinstance(ours, Manifest)
    assert isinstance(theirs, Manifest)
    assert ours.layers == theirs.layers
    assert parse(encode(ours)) == ours


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        (IMAGE | {"manifests": []}, ""),
        (IMAGE, manifest.OCI_INDEX),
        (IMAGE | {"mediaType": manifest.DOCKER_LIST}, ""),
        (IMAGE | {"layers": [LAYER | {"digest": "sha256:../../etc/passwd"}]}, ""),
        (IMAGE | {"layers": [LAYER | {"size": -1}]}, ""),
        (IMAGE | {"schemaVersion": 3}, ""),
        ([], ""),
        ({"schemaVersion": 2}, ""),
    ],
)
def test_refuses(document: Any, media_type: str) -> None:
    with pytest.raises(InvalidParameter):
        parse(json.dumps(document).encode(), media_type)


def test_refuses_schema_1() -> None:
    with pytest.raises(NotImplementedHere, match="schema 1"):
        parse(json.dumps({"schemaVersion": 1, "fsLayers": []}).encode())


def test_chooses_the_platform() -> None:
    found = index(
        entry(
            0,
            {"os": "unknown", "architecture": "unknown"},
            annotations={manifest.REFERENCE_TYPE: "attestation-manifest"},
        ),
        entry(1, {"os": "linux", "architecture": "arm", "variant": "v5"}),
        entry(2, {"os": "linux", "architecture": "arm", "variant": "v6"}),
        entry(3, {"os": "linux", "architecture": "arm64", "variant": "v8"}),
        entry(4, {"os": "linux", "architecture": "amd64"}),
    )

    def chosen(architecture: str, variant: str | None = None) -> int:
        one: Descriptor = choose(found, Platform(architecture=architecture, os="linux", variant=variant))
        return int(one.digest[-1])

    assert chosen("amd64") == 4
    assert chosen("arm64") == 3
    assert chosen("arm", "v7") == 2
    assert chosen("arm", "v5") == 1
    with pytest.raises(NotFound) as missing:
        chosen("s390x")
    assert str(missing.value) == "no matching manifest for linux/s390x in the manifest list entries"


def test_an_entry_without_a_platform_serves_last() -> None:
    wanted = Platform(architecture="amd64", os="linux")
    assert choose(index(entry(1, None)), wanted).digest[-1] == "1"
    both = index(entry(1, None), entry(2, {"os": "linux", "architecture": "amd64"}))
    assert choose(both, wanted).digest[-1] == "2"


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        parse(data)
    except SkiffError:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "schemaVersion",
                        "mediaType",
                        "config",
                        "layers",
                        "manifests",
                        "digest",
                        "size",
                        "platform",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json(value: Any) -> None:
    try:
        parse(json.dumps(value).encode())
    except SkiffError:
        pass
