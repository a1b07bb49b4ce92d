"""The inline cache: what an image tells of the steps that it came of, in a field of its config. Pure.

Whoever has the image, or may pull it, has a cache: its layers are the steps' layers. As in mode=min, only
steps that the image itself stands on are in it. `--cache-to type=inline` writes it, and so does the build
argument BUILDKIT_INLINE_CACHE.

    field    := base64(JSON of CarriedCache)      steps without the words that only --why needs
"""

import base64
import binascii
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from skiff.engine.builds.carried_steps import CarriedCache, CarriedStep
from skiff.engine.builds.request import BuildRequest
from skiff.engine.builds.solver import Done
from skiff.errors import InvalidParameter
from skiff.oci.image import ImageConfig

ARGUMENT = "BUILDKIT_INLINE_CACHE"


def is_wanted(request: BuildRequest) -> bool:
    said = (request.build_args.get(ARGUMENT) or "").lower()
    return said in ("1", "t", "true") or any(one.type == "inline" for one in request.cache_to)


def written(config: ImageConfig, steps: Iterable[Done], images: Mapping[str, str]) -> ImageConfig:
    """The config with the steps in it. images: as in CarriedCache."""
    carried = tuple(
        CarriedStep(
            key=step.key,
            parent=step.parent,
            above=step.above,
            diff_id=step.layer.diff_id if step.layer else None,
            size=step.layer.size if step.layer else 0,
        )
        for step in steps
    )
    data = msgspec.json.encode(CarriedCache(steps=carried, images=dict(images)))
    return replace(config, build_cache=base64.b64encode(data).decode())


def read(config: ImageConfig) -> CarriedCache | None:
    """None: it has none. InvalidParameter."""
    if not config.build_cache:
        return None
    try:
        data = base64.b64decode(config.build_cache, validate=True)
        return msgspec.json.decode(data, type=CarriedCache)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"the image's inline cache is not one of skiff: {error}") from error
