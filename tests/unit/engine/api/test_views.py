"""What later versions of the API dropped comes back for those who still want it."""

import pytest
from msgspec import UNSET

from skiff.docker.image import ImageInspect
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
