"""Logical lines → typed instructions: each keyword's grammar and flags. Pure; raises Fault."""

import re
from collections.abc import Callable, Iterator

from skiff.docker.units import parse_span
from skiff.engine.builds.dockerfile import instructions as of
from skiff.engine.builds.dockerfile.errors import Fault, suggestion
from skiff.engine.builds.dockerfile.heredoc import raw_words
from skiff.engine.builds.dockerfile.parser import Line, parse_trigger
from skiff.errors import InvalidParameter
from skiff.oci.image import Healthcheck

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_TRUE = ("true", "1", "t", "yes", "on", "y")
_FALSE = ("false", "0", "f", "no", "off", "n")
_MILLISECOND = 1_000_000  # ns

_REPEATED = ("mount", "exclude", "device")
_BOOLEAN = ("link", "parents", "keep-git-dir", "unpack")
_FLAGS = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "ADD": ("chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}


class Flags:
    """The flags of one line, checked against what its keyword knows."""

    def __init__(self, line: Line) -> None:
        self.found: dict[str, list[str]] = {}
        known = _FLAGS.get(line.keyword, ())
        for flag in line.flags:
            name, equals, value = flag[2:].partition("=")
            if name not in known:
                raise _fault(f"unknown flag: --{name}{suggestion(name, known)}", near=f"--{name}")
            if name in self.found and name not in _REPEATED:
                raise _fault(f"duplicate flag specified: --{name}", near=f"--{name}")
            if not equals:
                if name not in _BOOLEAN:
                    raise _fault(f"missing a value on flag: --{name}", near=f"--{name}")
                value = "true"
            self.found.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        return self.found.get(name, [""])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self.found.get(name, ()))

    def boolean(self, name: str) -> bool | None:
        if name not in self.found:
            return None
        value = self.text(name).lower()
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        raise _fault(f"expecting boolean value for flag --{name}, not: {self.text(name)}", near=f"--{name}")


def instruction(line: Line) -> of.Instruction:
    """What the line means. Fault."""
    return _READERS[line.keyword](line, Flags(line))


def _fault(message: str, near: str = "") -> Fault:
    return Fault(message, kind="grammar", near=near)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _at_least_one(line: Line) -> str:
    if not line.rest:
        raise _fault(f"{line.keyword} requires at least one argument")
    return line.rest


def _exactly_one(line: Line) -> str:
    if not line.rest:
        raise _fault(f"{line.keyword} requires exactly one argument")
    return line.rest


def _from(line: Line, flags: Flags) -> of.From:
    """FROM [--platform=…] image [AS name]."""
    words = _words(line.rest)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
        raise _fault("FROM requires either one or three arguments")
    name = words[2] if len(words) == 3 else ""
    if name and not _STAGE_NAME.fullmatch(name.lower()):
        message = (
            f'invalid name for build stage: "{name}", name can\'t start with a number or contain symbols'
        )
        raise _fault(message, near=name)
    return of.From(
        line=line,
        image=words[0],
        name=name,
        platform=flags.text("platform"),
        as_word=words[1] if name else "",
    )


def _pairs(line: Line) -> tuple[tuple[of.Pair, ...], bool]:
    """`a=b "c d"=e` or, when the first word has no =, `name the whole rest`."""
    words = list(raw_words(_at_least_one(line), "\\"))
    if "=" not in words[0]:
        parts = line.rest.split(None, 1)
        if len(parts) < 2:
            raise Fault(f"{line.keyword} must have two arguments", kind="syntax")
        return (of.Pair(parts[0], parts[1]),), True
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            message = f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value'
            raise Fault(message, kind="syntax", near=word)
        if not name:
            raise _fault(f"{line.keyword} names can not be blank", near=word)
        pairs.append(of.Pair(name, value))
    return tuple(pairs), False


def _env(line: Line, flags: Flags) -> of.Env:
    pairs, is_legacy = _pairs(line)
    return of.Env(line=line, pairs=pairs, is_legacy=is_legacy)


def _label(line: Line, flags: Flags) -> of.Label:
    pairs, is_legacy = _pairs(line)
    return of.Label(line=line, pairs=pairs, is_legacy=is_legacy)


def _arg(line: Line, flags: Flags) -> of.Arg:
    """ARG name[=default] …"""
    pairs = []
    for word in raw_words(_at_least_one(line), "\\"):
        name, equals, value = word.partition("=")
        if not name:
            raise _fault("ARG names can not be blank", near=word)
        pairs.append(of.Pair(name, value if equals else None))
    return of.Arg(line=line, pairs=tuple(pairs))


def _command(line: Line) -> of.Command:
    words = line.json
    if words is not None:
        return of.Command(arguments=words, is_shell=False)
    return of.Command(arguments=(line.rest,), is_shell=True, heredocs=line.heredocs)


def _run(line: Line, flags: Flags) -> of.Run:
    if flags.texts("device"):
        raise Fault("RUN --device is not supported: a build has no devices of the host", near="--device")
    network, security = flags.text("network"), flags.text("security")
    if network not in ("", "default", "none", "host"):
        hint = suggestion(network, ("default", "none", "host"))
        raise _fault(f'invalid network mode "{network}"{hint}', near="--network")
    if security not in ("", "sandbox", "insecure"):
        hint = suggestion(security, ("sandbox", "insecure"))
        raise _fault(f'security "{security}" is not valid{hint}', near="--security")
    return of.Run(
        line=line, command=_command(line), mounts=flags.texts("mount"), network=network, security=security
    )


def _copy(line: Line, flags: Flags) -> of.Copy:
    words = line.json
    heredocs = line.heredocs if words is None else ()
    if words is None:
        words = tuple(raw_words(line.rest, "\\")) if heredocs else _words(line.rest)
    if len(words) < 2:
        raise _fault(
            f"{line.keyword} requires at least two arguments, but only one was provided."
            " Destination could not be determined"
        )
    marks = {heredoc.mark for heredoc in heredocs}
    if words[-1] in marks:
        raise _fault(f"{line.keyword} cannot accept a heredoc as a destination", near=words[-1])
    return of.Copy(
        line=line,
        is_add=line.keyword == "ADD",
        sources=tuple(word for word in words[:-1] if word not in marks),
        destination=words[-1],
        heredocs=heredocs,
        origin=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.boolean("link")),
        parents=bool(flags.boolean("parents")),
        exclude=flags.texts("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.boolean("keep-git-dir"),
        unpack=flags.boolean("unpack"),
    )


def _expose(line: Line, flags: Flags) -> of.Expose:
    return of.Expose(line=line, ports=_words(_at_least_one(line)))


def _volume(line: Line, flags: Flags) -> of.Volume:
    paths = line.json
    if paths is None:
        paths = _words(line.rest)
    if not paths:
        raise _fault("VOLUME requires at least one argument")
    if not all(path.strip() for path in paths):
        raise _fault("VOLUME specified can not be an empty string")
    return of.Volume(line=line, paths=tuple(path.strip() for path in paths))


def _onbuild(line: Line, flags: Flags) -> of.Onbuild:
    """ONBUILD instruction: kept as text, read when a build begins from this image."""
    trigger = _at_least_one(line)
    keyword = trigger.split(None, 1)[0].upper()
    if keyword == "ONBUILD":
        raise _fault("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", near=trigger)
    if keyword in ("FROM", "MAINTAINER"):
        raise _fault(f"{keyword} isn't allowed as an ONBUILD trigger", near=trigger)
    for heredoc in line.heredocs:
        trigger += f"\n{heredoc.content}{heredoc.name}"
    return of.Onbuild(line=line, trigger=trigger)


def _healthcheck(line: Line, flags: Flags) -> of.HealthCheck:
    """HEALTHCHECK NONE, or HEALTHCHECK [flags] CMD command."""
    kind, _, rest = _at_least_one(line).partition(" ")
    rest = rest.strip()
    if kind.upper() == "NONE":
        if rest:
            raise _fault("HEALTHCHECK NONE takes no arguments", near=rest)
        return of.HealthCheck(line=line, check=Healthcheck(test=("NONE",)))
    if kind.upper() != "CMD":
        raise _fault(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)', near=kind)
    if not rest:
        raise _fault("Missing command after HEALTHCHECK CMD")
    words = _json_of(line, rest)
    if words == ():
        raise _fault("Missing command after HEALTHCHECK CMD")
    test = ("CMD-SHELL", rest) if words is None else ("CMD", *words)
    retries = flags.text("retries")
    if retries and not re.fullmatch(r"[+-]?\d{1,9}", retries):
        raise _fault(f'strconv.ParseInt: parsing "{retries}": invalid syntax', near="--retries")
    if retries and int(retries) < 0:
        raise _fault(f"--retries cannot be negative ({retries})", near="--retries")
    check = Healthcheck(
        test=test,
        interval=_span(flags, "interval"),
        timeout=_span(flags, "timeout"),
        start_period=_span(flags, "start-period"),
        start_interval=_span(flags, "start-interval"),
        retries=int(retries or 0),
    )
    return of.HealthCheck(line=line, check=check)


def _json_of(line: Line, text: str) -> tuple[str, ...] | None:
    return Line(
        keyword=line.keyword, written=line.written, flags=(), rest=text, first=line.first, last=line.last
    ).json


def _span(flags: Flags, name: str) -> int:
    """Nanoseconds; 0 when the flag is absent or empty."""
    text = flags.text(name)
    if not text:
        return 0
    try:
        span = parse_span(text)
    except InvalidParameter as error:
        raise _fault(str(error), near=f"--{name}") from None
    if span < 0:
        raise _fault(f'Interval "{name}" cannot be negative', near=f"--{name}")
    if 0 < span < _MILLISECOND:
        raise _fault(f'Interval "{name}" cannot be less than 1ms', near=f"--{name}")
    return span


def _shell(line: Line, flags: Flags) -> of.Shell:
    words = line.json
    if words is None and line.rest:
        raise _fault("SHELL requires the arguments to be in JSON form", near=line.rest)
    if not words:
        raise _fault("SHELL requires at least one argument")
    return of.Shell(line=line, arguments=words)


_READERS: dict[str, Callable[[Line, Flags], of.Instruction]] = {
    "FROM": _from,
    "ARG": _arg,
    "ENV": _env,
    "LABEL": _label,
    "RUN": _run,
    "COPY": _copy,
    "ADD": _copy,
    "CMD": lambda line, flags: of.Cmd(line=line, command=_command(line)),
    "ENTRYPOINT": lambda line, flags: of.Entrypoint(line=line, command=_command(line)),
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "USER": lambda line, flags: of.User(line=line, user=_exactly_one(line)),
    "WORKDIR": lambda line, flags: of.Workdir(line=line, path=_exactly_one(line)),
    "ONBUILD": _onbuild,
    "STOPSIGNAL": lambda line, flags: of.Stopsignal(line=line, signal=_exactly_one(line)),
    "HEALTHCHECK": _healthcheck,
    "SHELL": _shell,
    "MAINTAINER": lambda line, flags: of.Maintainer(line=line, name=_exactly_one(line)),
}


def triggers(texts: tuple[str, ...]) -> Iterator[of.Instruction]:
    """The ONBUILD triggers of an image's config. Fault."""
    for text in texts:
        line = parse_trigger(text)
        if line.keyword in ("FROM", "MAINTAINER", "ONBUILD"):
            raise Fault(f"{line.keyword} isn't allowed as an ONBUILD trigger")
        yield instruction(line)
