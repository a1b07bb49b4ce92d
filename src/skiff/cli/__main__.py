"""Where `skiff` begins: started by packaging/skiff as `python -IS …/skiff/cli/__main__.py`."""

import gc
import sys

if not __package__:
    gc.disable()  # what modules are made of is no garbage
    # Without `site` nothing tells where skiff lives: three folders above this file.
    home, version = sys.executable.rpartition("/bin/")[0], sys.version_info
    root = __file__.removesuffix("/skiff/cli/__main__.py")
    sys.path.insert(0, f"{root}/skiff/cli")
    from shortcut import Future, Shortcut  # type: ignore[import-not-found]

    sys.path[0] = root
    sys.modules["__future__"] = Future
    sys.meta_path.insert(0, Shortcut(root, "skiff"))
    # Nor where libraries are, which a few commands need, when skiff is installed as a folder that is edited.
    sys.path.append(f"{home}/lib/python{version.major}.{version.minor}/site-packages")

from skiff.cli.main import leave, main, settle

if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    leave(settle(main(sys.argv[1:])))
