"""What a signal, or what a program said last, tells of its end: data for cli/reasons.py."""

from __future__ import annotations

# signal → what it means, then what to do
SIGNAL_WORDS: dict[int, tuple[str, ...]] = {
    4: (
        "{program} came to an instruction that this processor does not have (SIGILL).",
        "It was built for a newer processor: build it for a plainer one (-march=x86-64-v2), or take "
        "another image.",
    ),
    6: (
        "{program} gave up by itself (SIGABRT): an assertion, or memory it found spoilt.",
        "Its last words say which.",
    ),
    7: (
        "{program} touched memory that is not there (SIGBUS): a mapped file cut short, or a full /dev/shm.",
        "--shm-size 1g",
    ),
    8: ("{program} divided by zero, or the like (SIGFPE).",),
    9: (
        "It was killed (SIGKILL), and not through this engine: by the machine for want of memory, by "
        "somebody on the "
        "host, or from within.",
        "dmesg | grep -i 'killed process' tells whether the machine was out of memory.",
    ),
    11: (
        "{program} touched memory that is not its own (SIGSEGV): a mistake in it, or libraries that "
        "do not fit.",
        "Does it also crash outside? A core: --ulimit core=-1.",
    ),
    13: ("{program} wrote to a pipe that nobody reads any more (SIGPIPE).",),
    15: ("It was told to end (SIGTERM), not through this engine: from within, or by somebody on the host.",),
    31: (
        "{program} made a system call that its filter forbids (SIGSYS).",
        "Which one? skiff run --security-opt seccomp=unconfined … shows whether that is it; then "
        "allow it in a "
        "profile of your own.",
    ),
}


# what it said → what that means → what to do
LAST_WORDS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("no space left on device",),
        "Its disk is full: that of the engine, or a tmpfs or volume with a size.",
        "skiff system df; skiff system prune; a larger --tmpfs …:size=",
    ),
    (
        ("address already in use",),
        "Something in its network has that port already: another process in it, or with --network "
        "host the machine.",
        "Let it listen elsewhere, or take its own network.",
    ),
    (
        ("read-only file system",),
        "It wrote where it may only read.",
        "Give it a volume or a --tmpfs for that directory.",
    ),
    (
        ("operation not permitted",),
        "It did something that containers may not: a capability that it does not have, or a system "
        "call that is filtered.",
        "--cap-add what it needs, and no more; whether the filter is it: --security-opt seccomp=unconfined.",
    ),
    (
        ("permission denied", "eacces"),
        "It may not open a file as the user it runs as.",
        "Who owns it? ls -ln in the container; chown it, or --user; on SELinux hosts :z behind the volume.",
    ),
    (
        (
            "name or service not known",
            "temporary failure in name resolution",
            "could not resolve",
            "nxdomain",
            "bad address",
        ),
        "It asked for a name that nobody knows.",
        "Containers find one another by name on networks of your own (skiff network create), not on "
        "the default bridge.",
    ),
    (
        ("connection refused",),
        "What it wanted to speak to does not listen: not yet, or elsewhere. localhost is the "
        "container itself.",
        "Wait for it, or --restart=on-failure; name the other container, not localhost.",
    ),
    (
        ("no such file or directory", "modulenotfounderror", "cannot find module", "enoent"),
        "Something it needs is not in its image, or a mount hides it.",
        "Look: skiff run --rm -it --entrypoint sh IMAGE",
    ),
    (
        ("cannot open shared object", "error loading shared libraries", "version `glibc"),
        "Its program was built against libraries that its image does not have.",
        "Build it on the same base image, or static.",
    ),
)
