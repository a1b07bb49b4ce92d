"""skiffd: the engine's command."""

import sys

from skiff import __version__
from skiff.engine import daemon
from skiff.engine.options import usage
from skiff.engine.settings import settings
from skiff.errors import SkiffError


def main() -> None:
    """Run until SIGTERM. Exit status 1 with a sentence when it cannot start."""
    arguments = sys.argv[1:]
    if "--help" in arguments:
        sys.stdout.write(usage())
        return
    if arguments in (["--version"], ["-v"]):
        sys.stdout.write(f"skiff version {__version__}\n")
        return
    try:
        daemon.run(settings(arguments), arguments)
    except SkiffError as error:
        sys.exit(f"skiffd: {error}")


if __name__ == "__main__":
    main()
