"""Where skiff's images of the corpus differ from Docker's, each with its reason."""

import re
from typing import Final

from tests.conformance.built import Result

EVERYWHERE: Final = (
    "A `RUN` leaves no mount points in its layer: Docker's has `/dev`, `/proc`, `/sys` and a touched `/etc`, "
    "which would make the layer of a command depend on who ran it. A step that changes nothing has no layer; "
    "Docker stores an empty one.",
    "What a build makes is as old as its newest input (`SOURCE_DATE_EPOCH` is in the environment of `RUN`), "
    "not as the hour of the build: the same inputs give the same image.",
)

KNOWN: Final[dict[str, str]] = {
    "add_chown_tar": "`ADD --chown` of an archive: directories that it only implies get the owner too; "
    "Docker leaves them root's.",
    "err_bad_chown": "`--chown` with a user that the image lacks is refused; Docker makes the files root's.",
    "err_several_to_file": "several sources and a destination that is no directory are refused, as Docker's "
    "classic builder does; BuildKit keeps the last file only.",
    "copy_parents": "`COPY --parents` is done without a `# syntax=` line.",
    "run_security_insecure": "`RUN --security` is done without a `# syntax=` line.",
}
"""Case → why skiff has another result, or refuses what Docker builds, or builds what Docker refuses."""

_EARLY = (
    "An error that skiff finds without building (in a variable, a port, a signal, the image of a later "
    "stage) ends the build before its first step: the heading of its step is told, no step before it is done."
)
_AS_BUILDKIT = "Docker's two builders disagree; skiff builds what BuildKit builds: "
_JSON = "What is wrong with a parameter's JSON is said in the words of skiff's parser."

STREAMS: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "copy_from_nothing",
            "copy_from_refused",
            "env_bad_modifier",
            "env_quote",
            "expose_bad",
            "expose_protocol",
            "expose_range",
            "from_refused_second",
            "stopsignal_bad",
            "stopsignal_two",
        ),
        _EARLY,
    ),
    **dict.fromkeys(("arguments_bad", "cachefrom_bad", "labels_bad", "ulimits_bad"), _JSON),
    "add_url_no_name": "A URL without a file's name is refused before it is fetched.",
    "continued_blank": "Empty lines in a continued one are told of by `--check`.",
    "copy_missing_glob": _AS_BUILDKIT + "a pattern may match nothing.",
    "copy_outside": _AS_BUILDKIT + "`..` ends at the context's root.",
    "copy_over_directory": "A directory over a file: Docker names a path on its disk, skiff the image's.",
    "duplicate_stage": _AS_BUILDKIT + "of two stages of one name the last counts; stages that the "
    "target does not need are neither built nor counted.",
    "env_bad_substitution": "A brace that lacks its end is called that.",
    "from_platform_bad": "A platform that is none is refused in other words.",
    "run_nothing": _AS_BUILDKIT + "`RUN` alone runs nothing.",
    "unknown_instruction_late": "The instruction nearest to a misspelt one is suggested; Docker may miss it.",
}
"""Case of streams/corpus.txt → how the classic stream of skiff differs from Docker's."""

_MOUNT_POINTS = re.compile(r"/(dev|proc|sys|etc|var) d 755 0:0 made|/root d 700 0:0 made")


def alike(made: Result) -> Result:
    """What of a result is to be equal: EVERYWHERE's differences taken out."""
    layers = [[e for e in layer if not _MOUNT_POINTS.fullmatch(e)] for layer in made["layers"]]
    history = []
    filled = iter([True, *map(bool, layers)])  # the base has one layer; a stage from scratch has none
    if made["history"] and made["history"][0][0] != "busybox":
        next(filled)
    for words, comment, is_empty in made["history"]:
        history.append([words, comment, is_empty or not next(filled)])
    return {**made, "layers": [layer for layer in layers if layer], "history": history}
