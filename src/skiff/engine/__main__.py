"""skiffd: the engine's command.

It answers sooner because of two things done before the imports: the collector does not look at objects that
all stay, and aiohttp does not read every certificate authority of this host for clients it may never have.
"""

import gc
import ssl
import sys

from skiff import __version__
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
        asked = settings(arguments)
        # Until the daemon listens; it freezes what is there by then and turns the collector on.
        gc.disable()
        _import_aiohttp()
        from skiff.engine import daemon

        daemon.run(asked, arguments)
    except SkiffError as error:
        sys.exit(f"skiffd: {error}")


def _import_aiohttp() -> None:
    """Import it with an empty store of authorities in its own default contexts.

    They then trust nobody: whoever speaks TLS through aiohttp brings a context (registry/transport.py does).
    """
    complete = ssl.create_default_context
    ssl.create_default_context = _trusts_nobody
    try:
        import aiohttp  # noqa: F401
    finally:
        ssl.create_default_context = complete


def _trusts_nobody(*_arguments: object, **_options: object) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


if __name__ == "__main__":
    main()
