"""What later versions of the API dropped comes back for those who still want it."""

import pytest
from msgspec import UNSET, Raw

from skiff.docker.image import ImageInspect, ImageSummary
from skiff.engine.api import views


@pytest.mark.parametrize(
    ("version", "agent", "has_container_config", "has_virtual_size"),
    [
        ((1, 43), "", True, True),
        ((1, 44), "", True, False),
        ((1, 45), "", False, False),
        ((1, 51), "docker-sdk-python/7.1.0", False, False),
        ((1, 51), "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1", True, False),
        ((1, 51), "docker-compose/2.1", False, False),
    ],
)
def test_fields_that_went(
    version: tuple[int, int], agent: str, has_container_config: bool, has_virtual_size: bool
) -> None:
    shaped = views.image(ImageInspect(id="sha256:1", size=7), version, agent)
    assert (shaped.container_config is not UNSET) == has_container_config
    assert (shaped.virtual_size is not UNSET) == has_virtual_size


def test_a_container_has_annotations_since_1_46() -> None:
    row = Raw(b'{"Id":"x","HostConfig":{"NetworkMode":"none","Annotations":{"a":"b"}}}')
    assert views.container_summary(row, (1, 46)) is row
    assert b"Annotations" not in bytes(views.container_summary(row, (1, 45)))


def test_what_has_no_name_was_called_so_before_1_43() -> None:
    bare, digested = ImageSummary(), ImageSummary(repo_digests=("a@b",))
    assert views.image_summary(bare, (1, 43)).repo_tags == ()
    assert views.image_summary(bare, (1, 42)).repo_tags == ("<none>:<none>",)
    assert views.image_summary(bare, (1, 42)).repo_digests == ("<none>@<none>",)
    assert views.image_summary(digested, (1, 42)).repo_tags is None


def test_usage_tells_a_virtual_size_before_1_44() -> None:
    usage = {"Images": [ImageSummary(size=5)]}
    assert views.usage(usage, (1, 44)) is usage
    assert views.usage(usage, (1, 43))["Images"][0].virtual_size == 5
    assert views.usage({"Images": None}, (1, 43)) == {"Images": None}


@pytest.mark.parametrize(
    ("version", "more"),
    [
        (51, set()),
        (50, set()),
        (49, {"BridgeNfIptables", "BridgeNfIp6tables"}),
        (41, {"BridgeNfIptables", "BridgeNfIp6tables", "KernelMemory"}),
    ],
)
def test_what_info_tells_of_the_past(version: int, more: set[str]) -> None:
    now = {"RegistryConfig": {}, "FirewallBackend": {}, "KernelMemoryTCP": True}
    told = views.info(now, (1, version))
    assert told.keys() - {"FirewallBackend"} == now.keys() - {"FirewallBackend"} | more
    assert ("FirewallBackend" in told) == (version >= 49)
    assert ("AllowNondistributableArtifactsCIDRs" in told["RegistryConfig"]) == (version < 48)
