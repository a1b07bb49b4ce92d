"""python -m skiff.runtime zygote FD: the process that forks monitors.

Started by the engine, never by a person.
"""

import sys

from skiff.runtime import zygote

BOOT = "import sys; sys.path[:0] = sys.argv[1].split(':'); from skiff.runtime.__main__ import main; main()"


def main() -> None:
    """`zygote FD`, after the import path when started by the engine through BOOT."""
    arguments = sys.argv[1:]
    if "zygote" not in arguments:
        sys.exit("usage: python -m skiff.runtime zygote FD")
    zygote.seal(sys.orig_argv[1:])
    zygote.serve(int(arguments[arguments.index("zygote") + 1]))


if __name__ == "__main__":
    main()
