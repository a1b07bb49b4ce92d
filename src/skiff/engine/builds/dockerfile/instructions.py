"""What a Dockerfile's lines mean, as values. Pure; variables are not expanded yet.

reading.py makes them of lines, frontend.py makes ops of them.
"""

from msgspec import Struct

from skiff.engine.builds.dockerfile.heredoc import Heredoc
from skiff.engine.builds.dockerfile.parser import Line
from skiff.oci.image import Healthcheck


class Command(Struct, frozen=True, kw_only=True):
    """What to run. arguments: the exec form's words, or the one shell line."""

    arguments: tuple[str, ...]
    is_shell: bool
    heredocs: tuple[Heredoc, ...] = ()


class Pair(Struct, frozen=True):
    """`name=value` with quotes and variables as written. value None: an ARG without a default."""

    name: str
    value: str | None


class Instruction(Struct, frozen=True, kw_only=True):
    """line: where it stands."""

    line: Line


class From(Instruction, frozen=True, kw_only=True):
    """name: the stage's, as written; "" when it has none. as_word: `AS`, `as`."""

    image: str
    name: str = ""
    platform: str = ""
    as_word: str = ""


class Arg(Instruction, frozen=True, kw_only=True):
    pairs: tuple[Pair, ...]


class Env(Instruction, frozen=True, kw_only=True):
    pairs: tuple[Pair, ...]
    is_legacy: bool = False  # `ENV name value`


class Label(Instruction, frozen=True, kw_only=True):
    pairs: tuple[Pair, ...]
    is_legacy: bool = False


class Run(Instruction, frozen=True, kw_only=True):
    """mounts: each --mount as written; mounts.py reads them once variables are known."""

    command: Command
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""


class Copy(Instruction, frozen=True, kw_only=True):
    """COPY, and ADD when is_add. origin: --from. unpack: None is ADD's own choice, by source."""

    is_add: bool
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    origin: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


class Cmd(Instruction, frozen=True, kw_only=True):
    command: Command


class Entrypoint(Instruction, frozen=True, kw_only=True):
    command: Command


class Expose(Instruction, frozen=True, kw_only=True):
    ports: tuple[str, ...]


class Volume(Instruction, frozen=True, kw_only=True):
    paths: tuple[str, ...]


class User(Instruction, frozen=True, kw_only=True):
    user: str


class Workdir(Instruction, frozen=True, kw_only=True):
    path: str


class Onbuild(Instruction, frozen=True, kw_only=True):
    """trigger: the instruction for later, as one line."""

    trigger: str


class Stopsignal(Instruction, frozen=True, kw_only=True):
    signal: str


class HealthCheck(Instruction, frozen=True, kw_only=True):
    check: Healthcheck


class Shell(Instruction, frozen=True, kw_only=True):
    arguments: tuple[str, ...]


class Maintainer(Instruction, frozen=True, kw_only=True):
    name: str
