"""Whether an image is of the platform that was asked for. Pure."""

from skiff.errors import NotFound
from skiff.oci.platform import Platform, normalise


def check(name: str, has: Platform, wanted: Platform | None) -> None:
    """NotFound, in Docker's words, unless the image called so is of that platform. None: any will do."""
    if wanted is not None and normalise(has) != normalise(wanted):
        raise NotFound(
            f"image with reference {name} was found but its platform ({has}) does not match the "
            f"specified platform ({wanted})"
        )
