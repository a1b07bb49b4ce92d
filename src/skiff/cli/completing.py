"""What the last word of a command line may become: commands, flags, their values, names. Pure but for `ask`.

Flags come from the rows that `parse` obeys; what a value or an argument is a name of stands in
completion_kinds.py, and who knows the names in completion_names.py.
"""

from __future__ import annotations

from skiff.cli.abouts import ABOUT
from skiff.cli.completion_kinds import ARGUMENTS, FILTERS, FLAG_VALUES, WORDS
from skiff.cli.help import GROUP_ABOUT
from skiff.cli.main import GLOBAL_FLAGS, GROUPS, SPELLINGS, load
from skiff.errors import NotImplementedHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skiff.cli.flags import Command, Flag

    Candidate = tuple[str, str]  # the word, what it is about or ""
    Ask = Callable[[str, str], Iterable[Candidate]]  # (kind, the word so far) → its names

FILES, FOLDERS = "files", "directories"  # the shell knows those
OF_THE_FIRST = {"snapshots", "volume-snapshots"}  # names that belong to the first argument
OVER_THERE = {"container-paths", "container-volumes"}  # behind their colon is a path in a container


class Completion:
    """candidates: sorted, each word once. files: what the shell offers as well, FILES, FOLDERS or ""."""

    __slots__ = ("candidates", "files")

    def __init__(self, candidates: Iterable[Candidate] = (), files: str = "") -> None:
        self.candidates = sorted(dict(sorted(candidates)).items())  # the longer "about" of two is the last
        self.files = files


def global_words(words: Sequence[str]) -> Sequence[str]:
    """Those before the command: which engine is asked for names."""
    return words[: _behind_flags(GLOBAL_FLAGS, words[:-1])[0]]


def complete(words: Sequence[str], ask: Ask) -> Completion:
    """words: all after `skiff`, the last one unfinished."""
    *before, last = words
    at, value = _behind_flags(GLOBAL_FLAGS, before)
    if value is not None:
        return _value(value, "", last, ask)
    return _after_global(before[at:], last, ask)


def _after_global(before: list[str], last: str, ask: Ask) -> Completion:
    """before: a command's words, its flags and arguments."""
    path = " ".join(before[:2])
    if len(before) < 2 or path not in SPELLINGS:
        path = before[0] if before else ""
        if path in GROUPS and len(before) == 1 and path not in SPELLINGS:
            return _matching(_members(path), last)
        if not path:
            if last.startswith("-"):
                return _flags(GLOBAL_FLAGS, last, "", ask)
            return _matching(_commands(), last)
        if path == "help":
            return _matching(_members(before[1]) if len(before) == 2 else _commands(), last)
        if path not in SPELLINGS:
            return Completion()
    elif len(before) == 1:
        path = before[0]
    rest = before[len(path.split()) :]
    try:
        command = load(path)
    except NotImplementedHere:
        return Completion()
    found = _in_command(command, SPELLINGS[path][1], rest, last, ask)
    if path in GROUPS and not rest:  # `snapshot` is a command and a group
        found.candidates = sorted({*found.candidates, *_matching(_members(path), last).candidates})
    return found


def _in_command(command: Command, key: str, rest: list[str], last: str, ask: Ask) -> Completion:
    flags = command.flags
    arguments: list[str] = []
    at = 0
    ended = False  # no flag may follow
    while at < len(rest):
        word = rest[at]
        if word == "--" and not ended:
            ended, at = True, at + 1
        elif word.startswith("-") and len(word) > 1 and not ended:
            moved, value = _behind_flags(flags, rest[at:], one=True)
            if value is not None:
                return _value(value, key, last, ask)
            at += moved
        else:
            arguments.append(word)
            ended = ended or not command.interspersed
            at += 1
    if key == "explain" and arguments:
        return _after_global(arguments, last, ask)
    if last.startswith("-") and not ended:
        return _flags(flags, last, key, ask)
    return _argument(key, arguments, last, ask)


def _behind_flags(
    flags: Sequence[Flag], words: Sequence[str], *, one: bool = False
) -> tuple[int, Flag | None]:
    """(how many words are flags with their values, the flag whose value is still to come)."""
    at = 0
    while at < len(words) and words[at].startswith("-") and len(words[at]) > 1 and words[at] != "--":
        word = words[at]
        at += 1
        flag = _flag_of(flags, word)
        if flag is not None and flag[2] != "bool" and _wants_next(word):
            if at == len(words):
                return at, flag
            at += 1
        if one:
            break
    return at, None


def _flag_of(flags: Sequence[Flag], word: str) -> Flag | None:
    """The flag that a word ends with: of `-it` that is t."""
    name = word[2:].partition("=")[0] if word.startswith("--") else ""
    if name:
        return next((flag for flag in flags if flag[0] == name), None)
    for number, letter in enumerate(word[1:], 1):
        flag = next((flag for flag in flags if flag[1] == letter), None)
        if flag is None or (flag[2] != "bool" and number < len(word) - 1):
            return None  # unknown, or the value is in this word
        if number == len(word) - 1:
            return flag
    return None


def _wants_next(word: str) -> bool:
    return "=" not in word


def _flags(flags: Sequence[Flag], last: str, key: str, ask: Ask) -> Completion:
    name, equals, typed = last.partition("=")
    if equals:
        flag = _flag_of(flags, name)
        if flag is None:
            return Completion()
        if flag[2] == "bool":
            return _matching([(f"{name}={value}", "") for value in ("true", "false")], last)
        found = _value(flag, key, typed, ask)
        found.candidates = [(f"{name}={word}", about) for word, about in found.candidates]
        return found
    named = [(f"--{flag[0]}", _first_line(flag[4])) for flag in flags if flag[4]]
    return _matching([*named, ("--help", "Show the page of this command")], last)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _value(flag: Flag, key: str, last: str, ask: Ask) -> Completion:
    if flag[2] == "filter":
        return _filter(key, last, ask)
    kinds = FLAG_VALUES.get(f"{key} --{flag[0]}", FLAG_VALUES.get(flag[0], ()))
    return _names(kinds, last, ask, before=last.rpartition(",")[0] if flag[2] == "csv" else "")


def _filter(key: str, last: str, ask: Ask) -> Completion:
    known = FILTERS.get(key, {})
    name, equals, typed = last.partition("=")
    if not equals:
        return _matching([(f"{word}=", "") for word in known], last)
    found = _names(known.get(name, ()), typed, ask)
    found.candidates = [(f"{name}={word}", about) for word, about in found.candidates]
    return found


def _argument(key: str, arguments: Sequence[str], last: str, ask: Ask) -> Completion:
    places = ARGUMENTS.get(key, ())
    if not places:
        return Completion()
    kinds = places[min(len(arguments), len(places) - 1)]
    of = f" {arguments[0]}" if arguments else ""
    found = _names([kind + of if kind in OF_THE_FIRST else kind for kind in kinds], last, ask)
    found.candidates = [pair for pair in found.candidates if pair[0] not in arguments]
    return found


def _names(kinds: Iterable[str], last: str, ask: Ask, *, before: str = "") -> Completion:
    """before: values of a comma-separated list that stand already."""
    prefix = f"{before}," if before else ""
    typed = last.removeprefix(prefix)
    candidates: list[Candidate] = []
    files = ""
    for kind in kinds:
        if kind in (FILES, FOLDERS):
            files = kind
        elif kind in WORDS:
            candidates += [(prefix + word, "") for word in WORDS[kind]]
        elif kind.startswith("="):
            candidates.append((prefix + kind[1:], ""))
        else:
            candidates += [(prefix + word, about) for word, about in ask(kind, typed)]
    if ":" in typed and OVER_THERE & set(kinds):
        files = ""
    return Completion(_matching(candidates, last).candidates, files)


def _matching(candidates: Iterable[Candidate], last: str) -> Completion:
    return Completion(pair for pair in candidates if pair[0].startswith(last))


def _commands() -> list[Candidate]:
    found = {name: GROUP_ABOUT[name] for name in GROUPS}
    found |= {spelling: about for spelling, about in _spelled() if " " not in spelling}
    return [*found.items(), ("help", "Show the page of a command")]


def _members(group: str) -> list[Candidate]:
    pairs = ((*spelling.partition(" ")[::2], about) for spelling, about in _spelled())
    return [(second, about) for first, second, about in pairs if first == group and second]


def _spelled() -> Iterable[Candidate]:
    """Every spelling of every command that is there."""
    for spelling, (_, key) in SPELLINGS.items():
        about = ABOUT.get(key, "")
        if not about:
            try:
                about = _first_line(load(spelling).about)
            except NotImplementedHere:
                continue
        yield spelling, about
