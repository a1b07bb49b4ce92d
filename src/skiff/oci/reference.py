"""References: what a person types to name an image. Pure.

`alpine` is short for `docker.io/library/alpine:latest`. A Reference is always normalised: its domain is
filled in; its tag is filled in only on request, for a bare name also means "every tag". The command line
parses them, too: nothing slow to load is imported here.
"""

import re
from typing import NamedTuple

from skiff.errors import InvalidParameter
from skiff.oci.digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
OFFICIAL = "library/"
LONGEST_PATH = 255

_COMPONENT = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[a-fA-F0-9:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PART}(?:/{_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?P<domain>{_HOST}(?::[0-9]+)?)/(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_WHOLE_TAG = re.compile(_TAG)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(NamedTuple):
    """A repository with, perhaps, a tag and a digest. `str()` gives the full spelling."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """`docker.io/library/alpine`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """`alpine`: the name as people write it, without tag or digest."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(OFFICIAL)
        return rest if "/" not in rest else self.path

    @property
    def familiar(self) -> str:
        """`alpine:3.20`, `alpine@sha256:…`: the whole reference as people write it."""
        return self.familiar_name + self._suffix

    @property
    def identifier(self) -> str:
        """What a registry is asked for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def is_bare(self) -> bool:
        """Neither a tag nor a digest is given."""
        return self.tag is None and self.digest is None

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix

    def tagged(self) -> "Reference":
        """Itself, with `latest` when bare."""
        return self._replace(tag=DEFAULT_TAG) if self.is_bare else self

    def with_tag(self, tag: str) -> "Reference":
        """The same repository at that tag. InvalidParameter."""
        return self._replace(tag=parse_tag(tag), digest=None)

    def with_digest(self, digest: Digest) -> "Reference":
        """The same repository at that digest, no tag."""
        return self._replace(tag=None, digest=digest)


def parse(text: str) -> Reference:
    """The reference that text spells, or InvalidParameter in Docker's words.

    reference := [domain "/"] path [":" tag] ["@" digest]
    domain    := host [":" port]         the first part, if it has "." or ":", is `localhost` or has capitals
    path      := part ("/" part)*        part := [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
    tag       := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
    digest    := algorithm ":" hex       at least 32 digits; 64 for sha256
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, rest = _split_domain(text)
    remote = rest.partition(":")[0].partition("@")[0]
    if remote.lower() != remote:
        raise InvalidParameter(f"invalid reference format: repository name ({remote}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if not match:
        raise InvalidParameter("invalid reference format")
    if len(match["path"]) > LONGEST_PATH:
        raise InvalidParameter(
            f"invalid reference format: repository name must not be more than {LONGEST_PATH} characters"
        )
    return Reference(match["domain"], match["path"], match["tag"], _digest(match["digest"]))


def parse_tag(text: str) -> str:
    """text, when it is a tag. InvalidParameter."""
    if not _WHOLE_TAG.fullmatch(text):
        raise InvalidParameter("invalid tag format")
    return text


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash or not _looks_like_domain(first):
        domain, rest = DEFAULT_DOMAIN, text
    else:
        domain = DEFAULT_DOMAIN if first == "index.docker.io" else first
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL + rest
    return domain, rest


def _looks_like_domain(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost" or part.lower() != part


def _digest(text: str | None) -> Digest | None:
    if text is None:
        return None
    algorithm, _, encoded = text.partition(":")
    length = _HEX_LENGTH.get(algorithm)
    if length is None:
        raise InvalidParameter("invalid reference format: unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidParameter("invalid reference format: invalid checksum digest length")
    if encoded.lower() != encoded:
        raise InvalidParameter("invalid reference format: invalid checksum digest format")
    return Digest(text)
