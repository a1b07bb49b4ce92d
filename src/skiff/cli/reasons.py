"""Why a container is as it is, and what to do about it. Pure: records, events, last words in; sentences out.

Each rule looks at a Case and gives a Reason, or None when it is not its matter; the first that knows wins.
"""

from __future__ import annotations

from skiff.cli.case import SIGNALS, Case, Reason, again, amount, image, policy, signal_name
from skiff.cli.reasons_start import START_ERRORS
from skiff.cli.reasons_words import LAST_WORDS, SIGNAL_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SHELLS = {"sh", "bash", "ash", "dash", "zsh", "python", "python3", "node", "irb"}
PREFIX = "OCI runtime create failed: "
CONTAINER_INIT = "error during container init: "
LOST = 255


def why(case: Case) -> Reason:
    """The reason for the state it is in."""
    for rule in RULES.get(case.status, ()):
        if (reason := rule(case)) is not None:
            return reason
    return Reason(f"It is {case.status}.")


# -- it never ran ----------------------------------------------------------------------------------------


def never_started(case: Case) -> Reason | None:
    if case.error:
        return None
    return Reason("It was created, and nobody has started it yet.", f"skiff start {case.name}")


def start_failed(case: Case) -> Reason | None:
    if not case.error:
        return None
    error = case.error.rpartition(PREFIX)[2].rpartition(CONTAINER_INIT)[2]
    for part, explain in START_ERRORS:
        if part in error:
            return explain(case, error)
    return Reason(f"It could not be started: {error}.", again(case))


# -- it ended --------------------------------------------------------------------------------------------


def out_of_memory(case: Case) -> Reason | None:
    if not case.state.get("OOMKilled"):
        return None
    limit = case.host.get("Memory") or 0
    said = f"its limit of {amount(limit)}" if limit else "what the machine had left"
    do = [f"skiff stats {case.name} shows what it uses while it runs."]
    if limit:
        do.insert(
            0,
            f"skiff update --memory {amount(limit * 2)} --memory-swap -1 {case.name} && skiff start "
            f"{case.name}",
        )
    else:
        do.insert(0, "Give it a limit (--memory), so that it cannot take from others; add memory or swap.")
    return Reason(f"The kernel killed a process in it: it wanted more memory than {said}.", *do)


def wrong_format(case: Case) -> Reason | None:
    line = case.said("exec format error")
    if not line:
        return None
    program = case.command[0]
    if case.built_for and case.machine and case.built_for != case.machine:
        return Reason(
            f"Its image is for {case.built_for}, this machine is {case.machine}: the kernel cannot "
            f"run {program}.",
            f"Get the image for this machine: skiff pull --platform linux/{case.machine} {image(case)}",
            "Or let the kernel emulate the other one: install qemu-user-static and binfmt-support.",
        )
    return Reason(
        f"The kernel does not know what {program} is: neither a program for this machine nor a script.",
        "A script needs a first line that says what runs it: #!/bin/sh (and nothing before it, no BOM).",
        f"What is it? skiff cp {case.name}:{program} - | tar -xO | head -c 64 | od -c",
    )


def missing_interpreter(case: Case) -> Reason | None:
    program = case.command[0]
    if case.code != LOST or not case.said(f"exec {program.lower()}: no such file"):
        return None
    return Reason(
        f"{program} is there, but what should run it is not: the interpreter of a script (its #! "
        "line), or the "
        "loader of a program that was linked for another libc.",
        "A script saved with Windows line ends asks for an interpreter called `sh\\r`: save it with "
        "Unix ones.",
        "A program built on Debian does not start on Alpine (glibc, musl): build it static, or on "
        "the same base.",
    )


def stopped(case: Case) -> Reason | None:
    """By us: `stop`, `kill`, `restart`, `rm -f`."""
    acts = case.acts()
    kills = [act.removeprefix("kill ") for act in acts if act.startswith("kill ")]
    if "stop" in acts and len(kills) > 1 and case.signal == 9:
        first = signal_name(kills[0])
        return Reason(
            f"Somebody stopped it. It did not end on {first} within {case.patience()} s, so it was killed.",
            f"Let {case.program or 'the program'} end on {first}. As process 1 it has no default for it: "
            "a shell script should `exec` its program, and --init puts a small init before it.",
            "It needs longer? --stop-timeout SECONDS. Another signal? --stop-signal.",
        )
    if "stop" in acts:
        return Reason(
            f"Somebody stopped it{f' ({signal_name(kills[0])})' if kills else ''}, and it ended.",
            again(case),
        )
    if kills:
        number = signal_name(kills[-1])
        return Reason(f"Somebody sent it {number} (skiff kill), and it ended.", again(case))
    return None


def by_signal(case: Case) -> Reason | None:
    if not case.signal:
        return None
    name = SIGNALS[case.signal]
    says, *do = SIGNAL_WORDS.get(case.signal, (f"The signal {name} ended it.",))
    return Reason(says.replace("{program}", case.program or "its program"), *do)


def shell_said(case: Case) -> Reason | None:
    """126 and 127 of a shell: what it wanted to run."""
    if case.code == 127:
        line = case.said("not found", "no such file")
        return Reason(
            "It ended with 127: a shell in it did not find a command" + (f": {line}" if line else "."),
            "Install the command in the image, or correct its name.",
        )
    if case.code == 126:
        line = case.said("permission denied", "cannot execute")
        return Reason(
            "It ended with 126: a shell in it may not run a command" + (f": {line}" if line else "."),
            "chmod +x the file in the image.",
        )
    return None


def nothing_to_do(case: Case) -> Reason | None:
    """A shell without anything to read ends at once."""
    if case.code != 0 or case.program not in SHELLS or len(case.command) > 1:
        return None
    if case.config.get("OpenStdin") and case.config.get("Tty"):
        return Reason(f"Whoever used its {case.program} left it.", f"skiff start -ai {case.name}")
    return Reason(
        f"Its command is {case.program}, which ends at once when there is nobody to type.",
        "Take part: skiff run -it …; or give it something to do, or something that stays: sleep infinity.",
    )


def went_to_background(case: Case) -> Reason | None:
    if case.code != 0 or case.program not in {"service", "systemctl", "apachectl", "nginx", "httpd", "sshd"}:
        return None
    return Reason(
        f"Its command ({' '.join(case.command)}) put the service into the background and ended; a "
        "container lasts as "
        "long as its first process.",
        "Run the service in the foreground: nginx -g 'daemon off;', httpd -DFOREGROUND, sshd -D.",
    )


def done(case: Case) -> Reason | None:
    if case.code != 0:
        return None
    return Reason(
        f"Its command ({' '.join(case.command).strip()}) has done its work and ended: code 0.",
        f"A container lasts as long as its command. Again: skiff start {case.name}",
    )


def unseen(case: Case) -> Reason | None:
    if case.code != LOST or case.words:
        return None
    return Reason(
        "Nobody saw it end: the machine went down, or its monitor was killed.",
        f"skiff start {case.name}; with --restart=unless-stopped it would have come back by itself.",
    )


def by_itself(case: Case) -> Reason | None:
    program = case.program or "its program"
    for parts, says, do in LAST_WORDS:
        if line := case.said(*parts):
            said = f"{program} ended by itself with code {case.code}. It said: {line}\n{says}"
            return Reason(said, do.replace("IMAGE", image(case)))
    last = next((line.strip() for line in reversed(case.words) if line.strip()), "")
    if last:
        return Reason(
            f"{program} ended by itself with code {case.code}. Its last words: {last}",
            f"skiff logs {case.name} has all of them.",
        )
    return Reason(
        f"{program} ended by itself with code {case.code}, and said nothing.",
        f"Look around in it: skiff commit {case.name} look && skiff run -it --entrypoint sh look",
    )


# -- it runs, or would like to ---------------------------------------------------------------------------


def unhealthy(case: Case) -> Reason | None:
    health = case.state.get("Health") or {}
    if health.get("Status") != "unhealthy":
        return None
    probes = health.get("Log") or [{}]
    last = probes[-1]
    said = (last.get("Output") or "").strip().splitlines()
    test = " ".join(((case.config.get("Healthcheck") or {}).get("Test") or [])[1:])
    return Reason(
        f"It runs, but its health check has failed {health.get('FailingStreak', 0)} times in a row; "
        "the last time with "
        f"code {last.get('ExitCode', '?')}" + (f": {said[-1]}" if said else "."),
        f"Try it yourself: skiff exec {case.name} sh -c '{test}'",
        "Too soon? --health-start-period gives it time to come up.",
    )


def runs(case: Case) -> Reason | None:
    health = (case.state.get("Health") or {}).get("Status", "")
    more = f" Its health: {health}." if health else ""
    restarts = case.found.get("RestartCount") or 0
    if restarts:
        more += f" It was started again {restarts} time{'' if restarts == 1 else 's'} by its restart policy."
    return Reason(f"It runs.{more}", *([f"skiff logs {case.name}"] if restarts else []))


def paused(case: Case) -> Reason | None:
    return Reason("Somebody paused it: all its processes stand still.", f"skiff unpause {case.name}")


def restarting(case: Case) -> Reason | None:
    for rule in ENDED:
        if (reason := rule(case)) is not None:
            break
    else:
        return None
    count = case.found.get("RestartCount") or 0
    return Reason(
        f"It keeps ending, and its restart policy ({policy(case)}) starts it again: {count} times so "
        "far, each time "
        f"a little later.\n{reason.says}",
        *(line for line in reason.do if line != again(case)),
        f"Hold it: skiff update --restart=no {case.name} && skiff stop {case.name}",
    )


ENDED: tuple[Callable[[Case], Reason | None], ...] = (
    start_failed,
    out_of_memory,
    wrong_format,
    missing_interpreter,
    stopped,
    by_signal,
    shell_said,
    nothing_to_do,
    went_to_background,
    done,
    unseen,
    by_itself,
)
RULES: dict[str, tuple[Callable[[Case], Reason | None], ...]] = {
    "created": (never_started, start_failed),
    "exited": ENDED,
    "dead": ENDED,
    "restarting": (restarting,),
    "running": (unhealthy, runs),
    "paused": (paused,),
}


# -- words -----------------------------------------------------------------------------------------------


def headline(case: Case, ago: str) -> str:
    """`web exited 2 minutes ago with code 137 (SIGKILL).` ago: of its end, "" when there was none."""
    if case.status in ("exited", "dead", "restarting"):
        what = "is restarting; it ended" if case.status == "restarting" else case.status
        signal = f" ({SIGNALS[case.signal]})" if case.signal else ""
        return f"{case.name} {what} {ago} with code {case.code}{signal}.".replace("  ", " ")
    if case.status == "created" and case.error:
        return f"{case.name} could not be started (code {case.code})."
    return f"{case.name} is {case.status}."


def afterwards(case: Case) -> str:
    """What its restart policy makes of the end; "" when there is nothing to say."""
    if case.status not in ("exited", "dead"):
        return ""
    name = (case.host.get("RestartPolicy") or {}).get("Name") or "no"
    if name == "no":
        return (
            "It is not started again: it has no restart policy (--restart=unless-stopped)."
            if case.code
            else ""
        )
    if "stop" in case.acts() or any(act.startswith("kill") for act in case.acts()):
        return f"Its restart policy ({policy(case)}) leaves it, because somebody stopped it."
    if name == "on-failure" and not case.code:
        return "Its restart policy (on-failure) leaves it, because it ended with 0."
    if name == "on-failure":
        return f"Its restart policy ({policy(case)}) has given up on it."
    return f"Its restart policy is {policy(case)}."
