"""skiff completion bash|zsh|fish: a script for the shell, and the answers it asks for at each tab.

The scripts call `skiff completion words -- WORD…` with the words typed so far, the last unfinished. Each
line of the answer is one candidate, a tab and what it is about; the last line is `:files`, `:directories` or
`:`, for what the shell itself knows.
"""

from __future__ import annotations

from skiff.cli.flags import Command
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

SCRIPTS = {
    "bash": r"""# bash completion for skiff: put this into /etc/bash_completion.d/skiff, or
#   source <(skiff completion bash)
_skiff() {
    # bash cuts words at : and =, too; skiff wants them whole.
    local rest=${COMP_LINE:0:COMP_POINT} piece i words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        if [[ $i -eq 0 || $rest == [[:space:]]* ]]; then words+=("$piece"); else words[-1]+=$piece; fi
        rest=${rest#"${rest%%[![:space:]]*}"}
        rest=${rest#"$piece"}
    done
    local current=${words[-1]} lines line last before program=${words[0]}
    [[ ${program##*/} == skiff ]] || program=skiff  # an alias
    mapfile -t lines < <("$program" completion words -- "${words[@]:1}" 2>/dev/null)
    [ ${#lines[@]} -gt 0 ] || return 0
    last=${lines[-1]}
    unset 'lines[-1]'
    # What stands before the last : or = is no part of what bash replaces.
    before=${current%"${current##*[:=]}"}
    COMPREPLY=()
    for line in "${lines[@]}"; do COMPREPLY+=("${line%%$'\t'*}"); done
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:=/,] ]] && compopt -o nospace
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    case $last in
        :files) _skiff_paths -f "${current##*[:=]}" ;;
        :directories) _skiff_paths -d "${current##*[:=]}" ;;
    esac
}
_skiff_paths() {
    local path found quoted
    mapfile -t found < <(compgen "$1" -- "$2")
    for path in "${found[@]}"; do
        [ -d "${path/#\~/$HOME}" ] && path+=/
        quoted=$(printf '%q' "$path")
        COMPREPLY+=("${quoted/#\\~/'~'}")
    done
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -F _skiff skiff
""",
    "zsh": r"""#compdef skiff
# zsh completion for skiff: put this into a directory of $fpath as _skiff, or
#   source <(skiff completion zsh)
_skiff() {
    local -a lines plain shown open openly
    local line word last program=${words[1]}
    [[ ${program:t} == skiff ]] || program=skiff  # an alias
    lines=("${(@f)$("$program" completion words -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    last=$lines[-1]
    lines[-1]=()
    for line in $lines; do
        word=${line%%$'\t'*}
        [[ $line == *$'\t'?* ]] && line="$word  -- ${line#*$'\t'}" || line=$word
        if [[ $word == *[:=/,] ]]; then
            open+=("$word") openly+=("$line")
        else
            plain+=("$word") shown+=("$line")
        fi
    done
    (( $#plain )) && compadd -Q -l -d shown -a plain
    (( $#open )) && compadd -Q -S '' -l -d openly -a open
    case $last in
        :files) compset -P '*='; _files ;;
        :directories) compset -P '*='; _files -/ ;;
    esac
}
if [ "$funcstack[1]" = "_skiff" ]; then _skiff "$@"; else compdef _skiff skiff; fi
""",
    "fish": r"""# fish completion for skiff: put this into ~/.config/fish/completions/skiff.fish, or
#   skiff completion fish | source
function __skiff_words
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l program $before[1]
    test (string replace -r '.*/' '' -- $program) = skiff; or set program skiff
    set -l lines ($program completion words -- $before[2..-1] "$current" 2>/dev/null)
    test (count $lines) -gt 0; or return
    set -l last $lines[-1]
    set -e lines[-1]
    test (count $lines) -gt 0; and printf '%s\n' $lines
    switch $last
        case ':files'
            __fish_complete_path (string replace -r '^-.*?=' '' -- $current)
        case ':directories'
            __fish_complete_directories (string replace -r '^-.*?=' '' -- $current)
    end
end
complete -c skiff -f -a '(__skiff_words)'
""",
}


def completion(session: Session, asked: Parsed) -> int:
    shell, *words = asked.args
    if shell == "words":
        return _answer(session, words[1:] or [""])  # behind the --
    if shell not in SCRIPTS or words:
        raise InvalidParameter(f"skiff completion knows the shells {', '.join(sorted(SCRIPTS))}")
    print(SCRIPTS[shell], end="")
    return 0


def _answer(session: Session, words: list[str]) -> int:
    from skiff.cli.completing import complete, global_words
    from skiff.cli.completion_names import Names
    from skiff.cli.flags import FlagError, parse_flags
    from skiff.cli.main import GLOBAL_FLAGS

    try:
        chosen = parse_flags(GLOBAL_FLAGS, global_words(words), interspersed=False)
        session = type(session)(chosen) if chosen.changed else session
    except FlagError:
        pass  # it is not finished, or the command will say what is wrong
    found = complete(words, Names(session))
    for word, about in found.candidates:
        print(f"{word}\t{about}" if about else word)
    print(f":{found.files}")
    return 0


COMMANDS = {
    "completion": Command(
        "bash|zsh|fish",
        """Print a completion script for a shell

  source <(skiff completion bash)        # in ~/.bashrc
  source <(skiff completion zsh)         # in ~/.zshrc, after compinit
  skiff completion fish | source         # in ~/.config/fish/config.fish""",
        completion,
        least=1,
        interspersed=False,
    )
}
