"""The file systems that a plan takes from outside: images, the context, downloads, repositories."""

import os
import secrets
from collections.abc import Mapping

from skiff.engine.builds import context
from skiff.engine.builds.context import Context
from skiff.engine.builds.filesystem import FileSystem
from skiff.engine.builds.keys import Part, cache_key
from skiff.engine.builds.plan import SourceOp
from skiff.engine.builds.selection import content_parts, select
from skiff.engine.builds.threads import finished
from skiff.engine.builds.tree import seen
from skiff.engine.images.service import Images
from skiff.errors import InvalidParameter


class BuildSources:
    """Of one build. scratch: a directory that goes with it. contexts: "" is the build's own."""

    def __init__(self, images: Images, scratch: str, contexts: Mapping[str, Context]) -> None:
        self._images = images
        self._scratch = scratch
        self._contexts = contexts

    async def source(self, op: SourceOp) -> FileSystem:
        """InvalidParameter, NotFound."""
        match op.kind:
            case "scratch":
                return FileSystem(key=cache_key(op, ()))
            case "image":
                image = await self._images.resolve(op.name)
                key = cache_key(op, (), [Part("the image", image.id)])
                layers = self._images.layers(image.id)
                return FileSystem(
                    key=key, chain=image.chain, layers=tuple(layers), image=image.id, config=image.config
                )
            case "context":
                known = self._contexts.get(op.name)
                if known is None:
                    raise InvalidParameter(f"build context {op.name}: only images are possible here")
                return FileSystem(
                    key=cache_key(op, ()), directory=known.directory, sums=known.sums, token=known.token
                )
            case "http":
                return await self._download(op)
            case "git":
                return await self._repository(op)

    async def _download(self, op: SourceOp) -> FileSystem:
        directory = f"{self._scratch}/download-{secrets.token_hex(4)}"
        os.mkdir(directory, 0o755)
        path = f"{directory}/{context.download_name(op.name)}"
        try:
            modified = await context.fetch(op.name, path, checksum=op.checksum)
        except InvalidParameter as error:
            raise InvalidParameter(f"ADD failed: {error}") from error
        os.chmod(path, 0o600)
        os.utime(path, ns=(modified, modified))
        return await finished(_hashed, op, directory)

    async def _repository(self, op: SourceOp) -> FileSystem:
        directory = f"{self._scratch}/repository-{secrets.token_hex(4)}"
        commit = await context.clone(op.name, directory, keep_git=op.keep_git_dir, commit=op.checksum)
        key = cache_key(op, (), [Part("the commit", commit)])
        return FileSystem(key=key, directory=directory)


def _hashed(op: SourceOp, directory: str) -> FileSystem:
    with seen([directory]) as tree:
        parts = content_parts(tree, select(tree, ("/",)), owners=False)
    return FileSystem(key=cache_key(op, (), parts), directory=directory)
