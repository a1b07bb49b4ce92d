"""--squash: several layers become one, with what the later ones deleted left out."""

import os
import threading
from collections.abc import Sequence

from skiff.engine.builds.layering import Layering
from skiff.engine.images.names import LayerRow
from skiff.engine.storage import diff
from skiff.engine.storage.extractor import Extractor, Job
from skiff.engine.storage.leases import HeldLease
from skiff.engine.storage.overlay import escape
from skiff.oci.digest import ChainID


class Squasher:
    def __init__(self, layering: Layering, extractor: Extractor) -> None:
        self._layering = layering
        self._extractor = extractor

    def squash(
        self, base: ChainID | None, layers: Sequence[LayerRow], epoch_ns: int, lease: HeldLease
    ) -> LayerRow | None:
        """The layers above base as one upon it. Blocking."""
        snapshots = self._layering.snapshots
        key = self._layering.begin(base)
        try:
            mounts = snapshots.mounts(key)
            directory = snapshots.directory(key)
            root = os.path.dirname(os.path.dirname(directory))
            options = None
            if mounts[0].type == "overlay":
                options = ",".join(mounts[0].options).replace(f"{escape(root)}/", "")
            for layer in layers:
                job = Job(directory, "delete", overlay=options, base=root, digests=True)
                self._apply(job, layer.chain)
        except BaseException:
            self._layering.discard(key)
            raise
        return self._layering.commit(key, base, epoch_ns, lease)

    def _apply(self, job: Job, chain: ChainID) -> None:
        snapshots = self._layering.snapshots
        reader, writer = os.pipe2(os.O_CLOEXEC)

        def pour() -> None:
            with open(writer, "wb") as pipe:
                try:
                    with snapshots.change(chain) as (upper, lowers):
                        for chunk in diff.upper_layer(upper, lowers):
                            pipe.write(chunk)
                except BrokenPipeError:
                    return  # the extraction has ended, and tells why

        pouring = threading.Thread(target=pour, daemon=True)
        pouring.start()
        try:
            self._extractor.run(job, reader)
        finally:
            os.close(reader)
            pouring.join()
