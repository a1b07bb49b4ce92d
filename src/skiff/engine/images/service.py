"""The front desk of images: find, list, inspect, tag, remove, prune, and the ways in and out.

It owns the names and the ids. It does not know containers: it asks `in_use`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence

from skiff.engine.images.progress import Progress
from skiff.engine.images.record import Image
from skiff.engine.registry.auth import Credentials
from skiff.oci.digest import ImageID
from skiff.oci.platform import Platform

Filters = Mapping[str, Sequence[str]]


class Images:
    """Images(...): built in assembly; see __init__."""

    async def resolve(self, name: str) -> Image:
        """The image called so: a reference, an id or its prefix, `host`. NotFound: `No such image: x`."""
        raise NotImplementedError

    def pull(
        self,
        reference: str,
        *,
        tag: str = "",
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[Progress]:
        """ImageCreate with fromImage. tag: a tag or a digest; empty and a bare reference: every tag.

        The first `anext` raises what failed before anything was said; later failures are raised too, and the
        door ends its stream with `progress.failure(str(error))`.
        """
        raise NotImplementedError

    def load(
        self, stream: AsyncIterator[bytes], *, quiet: bool = False, platform: Platform | None = None
    ) -> AsyncIterator[Progress]:
        """ImageLoad: a docker-archive or OCI layout as tar, perhaps compressed, from the request's body."""
        raise NotImplementedError

    def import_tar(
        self,
        stream: AsyncIterator[bytes],
        *,
        reference: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: Platform | None = None,
    ) -> AsyncIterator[Progress]:
        """ImageCreate with fromSrc=-: a root file system becomes an image of one layer."""
        raise NotImplementedError

    async def tag(self, name: str, repository: str, tag: str = "") -> None:
        """ImageTag."""
        raise NotImplementedError

    def names_of(self, id: ImageID) -> list[str]:
        """The familiar tags of an image, sorted."""
        raise NotImplementedError

    def descendants(self, id: ImageID) -> set[ImageID]:
        """The image and those built upon its layers: what the filter `ancestor` selects."""
        raise NotImplementedError
