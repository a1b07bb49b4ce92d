"""Where `skiff` begins: started by packaging/skiff as `python -IS …/skiff/cli/__main__.py`."""

import sys

if not __package__:
    # Without `site` nothing tells where skiff lives: three folders above this file.
    sys.path.insert(0, __file__.removesuffix("/skiff/cli/__main__.py"))

from skiff.cli.main import leave, main

if __name__ == "__main__":
    leave(main(sys.argv[1:]))
