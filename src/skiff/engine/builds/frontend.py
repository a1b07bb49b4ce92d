"""What a frontend is: source text to Plan. Pure: when it lacks the config of a base image it says so."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from skiff.engine.builds.plan import BaseImage, LintWarning, Missing, Plan
from skiff.oci.image import ImageConfig
from skiff.oci.platform import Platform


class BuildOptions(Struct, frozen=True, kw_only=True):
    """What the person asked for beside the Dockerfile.

    build_args: None as a value means "named, but unset". contexts: what `--build-context name=…` named; the
    value is an image reference, or "" for a tree that the caller holds under that name. ignore_cache: None:
    the cache is used; (): --no-cache; names: only these stages are built anew.
    """

    host: Platform
    target: str = ""
    build_args: Mapping[str, str | None] = {}
    labels: Mapping[str, str] = {}
    platform: Platform | None = None  # None: the host's
    contexts: Mapping[str, str] = {}
    network: str = "default"  # "default", "none", "host"; of every RUN that does not say otherwise
    ignore_cache: tuple[str, ...] | None = None
    filename: str = "Dockerfile"  # for messages
    ignored: tuple[str, ...] = ()  # the patterns of .dockerignore, for the lint rule CopyIgnoredFile


class Checked(Struct, frozen=True):
    """What the lint says. error: why the file is not to be built, though it could be."""

    warnings: tuple[LintWarning, ...]
    error: str = ""


class Frontend(Protocol):
    """Dockerfile text to Plan, or what is missing; asked again when that is known."""

    def plan(
        self, source: bytes, options: BuildOptions, known: Mapping[BaseImage, ImageConfig]
    ) -> Plan | Missing:
        """InvalidParameter: with the file, the line, the column and the line itself."""
        ...

    def check(
        self, source: bytes, options: BuildOptions, known: Mapping[BaseImage, ImageConfig]
    ) -> Checked | Missing:
        """What is questionable in the whole file. InvalidParameter."""
        ...
