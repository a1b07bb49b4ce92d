"""The error classes of skiff.

They know no HTTP: engine/api/faults.py maps each to a status. Pick one of the classes and say the rest in the
message; make a subclass only when a caller acts on it. Messages are Docker's own words where a client could
match them; otherwise lower case, no full stop, naming the thing and what was expected.
"""


class SkiffError(Exception):
    """A failure that is not a bug of ours. `str(error)` is one sentence for the user.

    detail: lines that a person is shown beneath it, each after a newline; programs match the sentence alone.
    """

    detail = ""


class InvalidParameter(SkiffError):
    """The request cannot mean anything: a malformed reference, an impossible port."""


class CannotRun(InvalidParameter):
    """The container's command could not be run.

    exit_code: 126 (found, but not executable) or 127 (not found), as a shell would say.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Unauthorized(SkiffError):
    """A registry wants to know who you are."""


class NoCredentials(Unauthorized):
    """A registry wants a password, and none was given. As Docker's engine does, the API answers 500 here: on
    401 docker's command line would ask for one in the middle of a script.
    """


class Forbidden(SkiffError):
    """You may not, ever: a predefined network, a registry that denies."""


class NotFound(SkiffError):
    """No such container, image, network, volume, blob, snapshot."""


class Conflict(SkiffError):
    """Not in this state: the name is in use, the container is running, the snapshot has children."""


class AlreadyExists(Conflict):
    """A thing of that name exists already."""


class NotModified(SkiffError):
    """It is so already: start of a running container."""


class Unavailable(SkiffError):
    """Not now: shutting down, a registry out of reach."""


class NotImplementedHere(SkiffError):
    """skiff does not do this: swarm, plugins, or a part of the API not built yet."""


class DigestMismatch(SkiffError):
    """The bytes are not those that their digest promised. The caller may fetch them again."""


class HostileArchive(InvalidParameter):
    """A tar entry tried to reach outside its directory, or is malformed."""
