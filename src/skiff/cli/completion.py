"""skiff completion bash|zsh|fish: a script for the shell, and the answers it asks for at each tab.

The scripts call `skiff completion words -- WORD…` with the words typed so far, the last unfinished; each line
of the answer is one candidate. Names of containers, images, networks and volumes come from the engine.
"""

from __future__ import annotations

from skiff.cli.flags import Command
from skiff.cli.main import GLOBAL_FLAGS, SPELLINGS, load
from skiff.errors import InvalidParameter, NotImplementedHere, SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from skiff.cli.flags import Flag, Parsed
    from skiff.cli.session import Session

SCRIPTS = {
    "bash": """_skiff() {
    local IFS=$'\\n'
    COMPREPLY=($(skiff completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _skiff skiff
""",
    "zsh": """#compdef skiff
_skiff() {
    local -a found
    found=("${(@f)$(skiff completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n $found[1] ]]; then compadd -Q -- $found; else _files; fi
}
compdef _skiff skiff
""",
    "fish": """function __skiff_words
    set -l before (commandline -opc)
    skiff completion words -- $before[2..-1] (commandline -ct) 2>/dev/null
end
complete -c skiff -a '(__skiff_words)'
""",
}
RUNNING = frozenset(
    ("attach", "exec", "kill", "logs", "pause", "port", "restart", "stop", "top", "unpause", "wait")
)
ANY_CONTAINER = frozenset(
    ("commit", "diff", "export", "rename", "rm", "start", "update", "container inspect")
)
OF_IMAGES = frozenset(("run", "create", "rmi", "tag", "history", "save", "push", "image inspect"))
OF_NETWORKS = frozenset(("network connect", "network disconnect", "network inspect", "network rm"))
OF_VOLUMES = frozenset(("volume inspect", "volume rm"))


def completion(session: Session, asked: Parsed) -> int:
    shell, *words = asked.args
    if shell == "words":
        for candidate in candidates(session, words or [""]):
            print(candidate)
        return 0
    if shell not in SCRIPTS or words:
        raise InvalidParameter(f"skiff completion knows the shells {', '.join(sorted(SCRIPTS))}")
    print(SCRIPTS[shell], end="")
    return 0


def candidates(session: Session, words: Sequence[str]) -> list[str]:
    """What the last word may become, sorted."""
    *before, last = words
    path, rest = _path(before)
    if path is None:
        found = _commands(rest)
        if last.startswith("-"):
            found = _names(GLOBAL_FLAGS)
    else:
        try:
            command = load(path)
        except NotImplementedHere:
            return []
        found = _names(command.flags) if last.startswith("-") else things(session, path)
        found = [name for name in found if name not in rest]
    return sorted(name for name in found if name.startswith(last))


def _path(before: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command among the words and what follows it, or None and its group if one was begun."""
    takes_value = {f"--{flag[0]}" for flag in GLOBAL_FLAGS if flag[2] != "bool"}
    takes_value |= {f"-{flag[1]}" for flag in GLOBAL_FLAGS if flag[1] and flag[2] != "bool"}
    at = 0
    while at < len(before) and before[at].startswith("-"):
        at += 2 if before[at] in takes_value else 1
    words = list(before[at:])
    if len(words) > 1 and " ".join(words[:2]) in SPELLINGS:
        return " ".join(words[:2]), words[2:]
    if words and words[0] in SPELLINGS:
        return words[0], words[1:]
    return None, words


def _commands(group: Sequence[str]) -> list[str]:
    """The commands of a group, or the first words of all; only those that are there."""
    found = set()
    for spelling in SPELLINGS:
        first, _, second = spelling.partition(" ")
        if group and (first != group[0] or not second):
            continue
        try:
            load(spelling)
        except NotImplementedHere:
            continue
        found.add(second if group else first)
    return list(found)


def _names(flags: Sequence[Flag]) -> list[str]:
    return [f"--{flag[0]}" for flag in flags if flag[4]] + ["--help"]


def things(session: Session, path: str) -> list[str]:
    """Names the engine knows that fit the command; none when it does not answer."""
    key = SPELLINGS[path][1]
    engine = session.engine()
    try:
        if key in RUNNING or key in ANY_CONTAINER or key == "inspect":
            containers = engine.containers(all=key not in RUNNING)
            return [name.removeprefix("/") for container in containers for name in container["Names"]]
        if key in OF_IMAGES:
            return [name for image in engine.images() for name in image.get("RepoTags") or ()]
        if key in OF_NETWORKS:
            return [network["Name"] for network in engine.networks()]
        if key in OF_VOLUMES:
            return [volume["Name"] for volume in engine.volumes().get("Volumes") or ()]
    except SkiffError:  # a tab is no place for a message; the command itself will tell
        pass
    return []


COMMANDS = {
    "completion": Command(
        "bash|zsh|fish", "Print a completion script for a shell", completion, least=1, interspersed=False
    )
}
