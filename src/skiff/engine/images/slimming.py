"""Images without the compressed blobs of their layers: for those who ask for it (docs/adr/0013).

A blob goes only after its layer's tar has been written again and has come to the same digest, and after the
disk has what that tar was written from. What leads to it goes first, so a crash in between leaves what the
collector finds.
"""

import asyncio
import logging
import os
from collections.abc import Iterable
from contextlib import suppress

from skiff.engine.images.names import LayerRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.rebuilding import is_noted, rebuilt
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.snapshots import Snapshotter
from skiff.errors import DigestMismatch, SkiffError
from skiff.oci.digest import ImageID

log = logging.getLogger(__name__)


class Slimmer:
    """wanted: False for those who keep everything."""

    def __init__(
        self,
        names: Names,
        content: ContentStore,
        snapshots: Snapshotter,
        needs: Needs,
        *,
        wanted: bool = True,
    ) -> None:
        self._names = names
        self._content = content
        self._snapshots = snapshots
        self._needs = needs
        self._wanted = wanted

    async def slim(self, images: Iterable[ImageID]) -> None:
        """Drop the blobs that the images can do without. Layers without notes keep theirs.

        The images are whole either way: what goes wrong is logged, and whoever brought them has not failed.
        """
        for id in dict.fromkeys(images) if self._wanted else ():
            try:
                await self._slim(id)
            except (SkiffError, OSError) as error:
                log.warning("compressed layers of %s stay: %s", id, error)

    async def _slim(self, id: ImageID) -> None:
        layers = [one for one in self._names.image(id).layers if one.blob]
        noted = [one for one in layers if is_noted(one.chain, self._snapshots)]
        right = await asyncio.gather(*(asyncio.to_thread(self._comes_out_right, one) for one in noted))
        blobs = {one.blob for one, is_right in zip(noted, right, strict=True) if is_right and one.blob}
        if blobs:
            # of files and notes, too: from now on nothing else has the layers' bytes
            await asyncio.to_thread(self._content.sync)
        for blob in blobs:
            self._names.without_blob(blob)
        self._needs.drop(blobs)

    def _comes_out_right(self, layer: LayerRow) -> bool:
        try:
            for _ in rebuilt(layer, self._snapshots):
                pass
        except DigestMismatch:  # a later entry of the archive took the place of an earlier one
            with suppress(FileNotFoundError):  # another image with this layer was quicker
                os.unlink(self._snapshots.notes(layer.chain))
            return False
        return True
