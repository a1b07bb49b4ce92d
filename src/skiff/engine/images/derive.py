"""An image made of another one and one more layer: what commit makes.

The layer is a copy of a directory of changes, whose large files share their blocks where the file system can.
Its tar is packed only for its digest: like the layers of a build it has no blob. A layer without any entry is
left out, as Docker does.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence, Set
from contextlib import closing
from datetime import UTC, datetime

from msgspec.structs import replace

from skiff.engine.images.assemble import Assembler
from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.rebuilding import collected
from skiff.engine.images.record import Publish
from skiff.engine.storage import diff, tarwriter
from skiff.engine.storage.apply import DRAFT
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.engine.storage.replica import Replica
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import AlreadyExists
from skiff.linux import trees
from skiff.oci import digest as digests
from skiff.oci.digest import DiffID, Digest, ImageID
from skiff.oci.image import History, ImageConfig, RunConfig, chain_ids
from skiff.oci.image import parse as parse_config
from skiff.oci.reference import Reference

NOTHING = DiffID(digests.of(tarwriter.END))  # the digest of a tar without any entry


class Deriver:
    def __init__(
        self,
        names: Names,
        content: ContentStore,
        snapshots: Snapshotter,
        leases: Leases,
        assembler: Assembler,
        publish: Publish,
    ) -> None:
        self._names = names
        self._content = content
        self._snapshots = snapshots
        self._leases = leases
        self._assembler = assembler
        self._publish = publish

    async def derive(
        self,
        parent: ImageID,
        upper: str,
        run: RunConfig,
        *,
        without: Set[str] = frozenset(),
        author: str = "",
        comment: str = "",
        created_by: str = "",
        names: Sequence[Reference] = (),
    ) -> ImageID:
        """upper: a directory of changes to the parent, as overlayfs keeps them; without: paths in it that do
        not count. NotFound when the parent is no longer here.
        """
        row = self._names.image(parent)
        base = await asyncio.to_thread(self._config, parent)
        with self._leases.hold(parent) as lease:
            made = await asyncio.to_thread(self._layer, row, upper, without, lease)
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            step = History(
                created=now,
                created_by=created_by or None,
                author=author or None,
                comment=comment or None,
                empty_layer=made is None,
            )
            config = replace(
                base,
                build_cache=None,
                created=now,
                author=author or None,
                comment=comment or None,
                config=run,
                history=(*base.steps, step),
            )
            layers = row.layers if made is None else (*row.layers, made)
            id = await self._assembler.image(config, layers, names=names, parent=parent)
        self._publish("create", id, {"name": id})
        return id

    def _layer(self, row: ImageRow, upper: str, without: Set[str], lease: HeldLease) -> LayerRow | None:
        """The committed layer above those of row; None when it would be empty."""
        key = SnapshotKey(DRAFT + secrets.token_hex(8))
        self._snapshots.prepare(key, row.chain)
        try:
            digest = hashlib.sha256()
            lowers = self._snapshots.lowers(key)
            is_copy = bool(row.chain) and not lowers
            with closing(Replica(self._snapshots.directory(key), over=is_copy)) as replica:
                for piece in collected(diff.upper_layer(upper, lowers, without=without, replica=replica)):
                    digest.update(piece)
                replica.finish()
            diff_id = DiffID(f"sha256:{digest.hexdigest()}")
            if diff_id == NOTHING:
                self._snapshots.remove(key)
                return None
            chain = chain_ids([*(layer.diff_id for layer in row.layers), diff_id])[-1]
            lease.add(chain)
            self._snapshots.commit(chain, key)
        except AlreadyExists:  # an earlier commit came to the same
            self._snapshots.remove(key)
        except BaseException:
            trees.remove(self._snapshots.directory(key))  # first: on a full disk no record can be written
            self._snapshots.remove(key)
            raise
        return LayerRow(chain, diff_id, replica.size)

    def _config(self, id: ImageID) -> ImageConfig:
        with self._content.open(Digest(id)) as blob:
            return parse_config(blob.read())
