"""Removing images: names first, then what nothing leads to. Docker's conflicts, word for word.

a tag of several      untag only
the last tag, an id   untag, delete the image, its layers from the top down, its parents that nobody names
"""

import asyncio
from collections.abc import Sequence

from skiff.docker.image import DeleteResponse
from skiff.engine.images.kept import KeptImages
from skiff.engine.images.names import ImageRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.record import ImageUse, InUse, Publish
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.snapshots import Snapshotter
from skiff.errors import Conflict, NotFound
from skiff.oci.digest import ChainID, Digest, ImageID
from skiff.oci.reference import Reference

Done = list[DeleteResponse]


class Remover:
    def __init__(
        self,
        names: Names,
        snapshots: Snapshotter,
        leases: Leases,
        in_use: InUse,
        publish: Publish,
        kept: KeptImages,
        needs: Needs,
    ) -> None:
        self._names = names
        self._kept = kept
        self._snapshots = snapshots
        self._leases = leases
        self._in_use = in_use
        self._publish = publish
        self._needs = needs

    async def remove(self, name: str, *, force: bool, prune_parents: bool) -> Done:
        """What was done, in order. NotFound, Conflict."""
        with self._kept.removal(name):
            return await self._remove(name, force=force, prune_parents=prune_parents)

    async def _remove(self, name: str, *, force: bool, prune_parents: bool) -> Done:
        id, reference = self._names.find(name)
        done: Done = []
        if reference is not None:
            others = self._others(id, reference)
            if others:
                self._untag(id, reference, done)
                return done
            self._check_named(id, reference, name, force=force)
            if self._uses(id) or self._children(id):
                # a forced removal of an image that a stopped container, or a child image, still needs
                for one in self._names.references(id):
                    self._untag(id, one, done)
                return done
        else:
            self._check_id(id, force=force)
            if self._uses(id):  # forced: the stopped container keeps what it stands on
                for one in self._names.references(id):
                    self._untag(id, one, done)
                return done
        await self._delete(id, done, prune_parents=prune_parents)
        return done

    async def prune(self, ids: Sequence[ImageID]) -> tuple[Done, int]:
        """Remove those of the images that nothing needs. What was done, and the bytes that came free."""
        done: Done = []
        freed = 0
        for id in ids:
            if not self._names.has(id) or self._uses(id) or self._children(id):
                continue
            names = self._names.references(id)
            with self._kept.removal(names[0].familiar if names else _short(id)):
                freed += await self._delete(id, done, prune_parents=True)
        return done, freed

    def prunable(self, ids: Sequence[ImageID]) -> tuple[Done, int]:
        """What `prune` would do: the images that would go, and the bytes. Parents that nobody names follow
        their last child; they are not told.
        """
        gone: list[ImageID] = []
        for id in ids:
            if self._names.has(id) and not self._uses(id) and not self._children(id):
                gone.append(id)
        done: Done = []
        for id in gone:
            done += [DeleteResponse(untagged=one.familiar) for one in self._names.references(id)]
            done.append(DeleteResponse(deleted=id))
        rest = {layer.chain for row in self._names.images() if row.id not in gone for layer in row.layers}
        layers = {layer.chain: layer.size for id in gone for layer in self._names.image(id).layers}
        return done, sum(size for chain, size in layers.items() if chain not in rest)

    def _others(self, id: ImageID, reference: Reference) -> bool:
        """Whether the image keeps a name when this goes; digests of a repository go with its last tag."""
        rest = [one for one in self._names.references(id) if str(one) != str(_kept(reference))]
        if reference.digest:
            return bool(rest)
        same = [one for one in rest if one.name == reference.name]
        tags = [one for one in same if one.tag]
        return bool(tags) or any(one.name != reference.name for one in rest)

    def _untag(self, id: ImageID, reference: Reference, done: Done) -> None:
        goes = [_kept(reference)]
        rest = [one for one in self._names.references(id) if str(one) != str(goes[0])]
        if reference.tag and not any(one.tag for one in rest if one.name == reference.name):
            goes += [one for one in rest if one.name == reference.name]
        for one in goes:
            if self._names.meaning(one) is None:
                continue
            self._kept.note_name(one)
            self._names.unname(one)
            done.append(DeleteResponse(untagged=one.familiar))
            self._publish("untag", id, {"name": id})

    async def _delete(self, id: ImageID, done: Done, *, prune_parents: bool) -> int:
        row = self._names.image(id)
        for reference in self._names.references(id):
            self._kept.note_name(reference)
            self._names.unname(reference)
            done.append(DeleteResponse(untagged=reference.familiar))
            self._publish("untag", id, {"name": id})
        freed = await self._forget(row, done)
        parent = row.parent
        while prune_parents and parent and self._names.has(parent):
            above = self._names.image(parent)
            if self._names.references(parent) or self._children(parent) or self._uses(parent):
                break
            freed += await self._forget(above, done)
            parent = above.parent
        if not self._kept.keeping:
            await asyncio.to_thread(self._snapshots.sweep)
        return freed

    async def _forget(self, row: ImageRow, done: Done) -> int:
        """Delete a nameless image and whatever only it needed. The bytes that came free."""
        self._names.delete(row.id)
        done.append(DeleteResponse(deleted=row.id))
        self._publish("delete", row.id, {"name": row.id})
        freed = 0
        if self._kept.keeping:  # the collector takes them when the grace is over
            self._kept.note_image(row)
            alive = {layer.chain for one in self._names.images() for layer in one.layers}
            for layer in reversed(row.layers):
                if layer.chain not in alive:
                    done.append(DeleteResponse(deleted=layer.chain))
                    freed += layer.size
            return freed
        needed = {layer.chain for one in self._needs.images() for layer in one.layers} | self._leases.held()
        for layer in reversed(row.layers):
            if layer.chain not in needed and await asyncio.to_thread(self._remove_layer, layer.chain):
                done.append(DeleteResponse(deleted=layer.chain))
                freed += layer.size
        await asyncio.to_thread(self._needs.drop, {*row.blobs, Digest(row.id)})
        return freed

    def _remove_layer(self, chain: ChainID) -> bool:
        try:
            self._snapshots.remove(chain)
        except (NotFound, Conflict):  # Conflict: a container or a draft stands on it; the collector comes by
            return False
        return True

    def _uses(self, id: ImageID) -> Sequence[ImageUse]:
        return self._in_use(id)

    def _children(self, id: ImageID) -> bool:
        return any(row.parent == id for row in self._names.images())

    def _check_named(self, id: ImageID, reference: Reference, name: str, *, force: bool) -> None:
        uses = self._uses(id)
        running = next((use for use in uses if use.is_running), None)
        if running and force:
            raise Conflict(
                f"conflict: unable to delete {reference.familiar} (cannot be forced)"
                f" - container {_short(running.container)} is using its referenced image {_short(id)}"
            )
        if uses and not force:
            use = running or uses[0]
            raise Conflict(
                f'conflict: unable to remove repository reference "{name}" (must force)'
                f" - container {_short(use.container)} is using its referenced image {_short(id)}"
            )

    def _check_id(self, id: ImageID, *, force: bool) -> None:
        short = _short(id)
        if self._children(id):
            raise Conflict(
                f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
            )
        uses = self._uses(id)
        for use in uses:
            if use.is_running:
                raise Conflict(
                    f"conflict: unable to delete {short} (cannot be forced)"
                    f" - image is being used by running container {_short(use.container)}"
                )
        if force:
            return
        repositories = {one.name for one in self._names.references(id)}
        if len(repositories) > 1 or len(self._names.tags(id)) > 1:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced)"
                " - image is referenced in multiple repositories"
            )
        for use in uses:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced)"
                f" - image is being used by stopped container {_short(use.container)}"
            )


def _kept(reference: Reference) -> Reference:
    return reference.with_digest(reference.digest) if reference.digest else reference


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]
