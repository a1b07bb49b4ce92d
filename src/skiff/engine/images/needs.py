"""Which blobs must stay, for all who delete some by hand. The rest is the collector's (storage/gc.py)."""

from collections.abc import Callable, Iterable, Set
from contextlib import suppress

from skiff.engine.images.names import ImageRow, Names
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import Leases
from skiff.errors import NotFound
from skiff.oci.digest import Digest


class Needs:
    """removed: images that can still come back. served: blobs of what was pushed here."""

    def __init__(
        self,
        names: Names,
        content: ContentStore,
        leases: Leases,
        removed: Callable[[], Iterable[ImageRow]],
        served: Callable[[], Set[str]],
    ) -> None:
        self._names = names
        self._content = content
        self._leases = leases
        self._removed = removed
        self._served = served

    def images(self) -> list[ImageRow]:
        """All that are here, and those that can still come back."""
        return [*self._names.images(), *self._removed()]

    def blobs(self) -> set[str]:
        """Configs, manifests and layers to which an image, a name or what was pushed here leads."""
        found = {*self._names.manifests(), *self._served()}
        for row in self.images():
            found |= {row.id, *row.blobs}
        return found

    def drop(self, blobs: Set[Digest]) -> None:
        """Delete those that nobody needs and no lease holds. Blocking."""
        for blob in blobs - self.blobs() - self._leases.held():
            with suppress(NotFound):
                self._content.delete(blob)
