"""An image made of another one and one more layer: what commit makes.

The layer is written as a blob while its digest is taken; a layer without any entry is left out, as Docker
does.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain

from msgspec.structs import replace

from skiff.engine.images.assemble import Assembler
from skiff.engine.images.names import Names
from skiff.engine.images.record import Publish
from skiff.engine.storage import tarwriter
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import Leases
from skiff.oci.digest import Digest, ImageID
from skiff.oci.image import History, ImageConfig, RunConfig
from skiff.oci.image import parse as parse_config
from skiff.oci.reference import Reference


class Deriver:
    def __init__(
        self, names: Names, content: ContentStore, leases: Leases, assembler: Assembler, publish: Publish
    ) -> None:
        self._names = names
        self._content = content
        self._leases = leases
        self._assembler = assembler
        self._publish = publish

    async def derive(
        self,
        parent: ImageID,
        layer: Iterator[bytes],
        run: RunConfig,
        *,
        author: str = "",
        comment: str = "",
        created_by: str = "",
        names: Sequence[Reference] = (),
    ) -> ImageID:
        """layer: a tar, in chunks; it is read in a thread. NotFound when the parent is no longer here."""
        row = self._names.image(parent)
        base = await asyncio.to_thread(self._config, parent)
        await self._assembler.warm()
        with self._leases.hold(parent) as lease:
            layers = list(row.layers)
            head = await asyncio.to_thread(_head, layer)
            is_empty = head == tarwriter.END
            if not is_empty:
                below = [one.diff_id for one in row.layers]
                layers.append(await self._assembler.made(chain([head], layer), below, lease.add))
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            step = History(
                created=now,
                created_by=created_by or None,
                author=author or None,
                comment=comment or None,
                empty_layer=is_empty,
            )
            config = replace(
                base,
                created=now,
                author=author or None,
                comment=comment or None,
                config=run,
                history=(*base.steps, step),
            )
            id = await self._assembler.image(config, layers, names=names, parent=parent)
        self._publish("create", id, {"name": id})
        return id

    def _config(self, id: ImageID) -> ImageConfig:
        with self._content.open(Digest(id)) as blob:
            return parse_config(blob.read())


def _head(layer: Iterator[bytes]) -> bytes:
    """The first bytes of a tar: enough to tell an empty one."""
    head = b""
    while len(head) < len(tarwriter.END) and (more := next(layer, b"")):
        head += more
    return head
