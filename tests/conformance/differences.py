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
