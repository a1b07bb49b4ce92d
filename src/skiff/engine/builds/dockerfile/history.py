"""The words of an image's history, as BuildKit writes them; tools match them. Pure.

RUN |1 A=1 /bin/sh -c make # buildkit      ENV A=1      CMD ["sh" "-c" "x"]      EXPOSE [80/tcp]
"""

from collections.abc import Sequence

from skiff.docker.quoting import quoted, quoted_rune
from skiff.engine.builds.dockerfile import instructions as of
from skiff.oci.image import Healthcheck, History

COMMENT = "buildkit.dockerfile.v0"
_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"))


def entry(created_by: str, *, changes_files: bool = False) -> History:
    """A history entry without a time; the solver may yet find that a step changed no file."""
    return History(created_by=created_by, comment=COMMENT, empty_layer=not changes_files)


def run(arguments: Sequence[str], variables: Sequence[str]) -> str:
    """variables: the ARGs in force, `name=value`."""
    count = [f"|{len(variables)}", *variables] if variables else []
    return " ".join(["RUN", *count, *arguments, "# buildkit"])


def copy(instruction: of.Copy, sources: Sequence[str], destination: str, chown: str, chmod: str) -> str:
    flags = [f"--chown={chown}"] if chown else []
    flags += [f"--chmod={chmod}"] if chmod else []
    marks = [f"<<{heredoc.name}" for heredoc in instruction.heredocs]
    keyword = "ADD" if instruction.is_add else "COPY"
    return " ".join([keyword, *flags, *sources, *marks, destination, "# buildkit"])


def pairs(keyword: str, values: Sequence[tuple[str, str | None]]) -> str:
    return " ".join([keyword, *(name if value is None else f"{name}={value}" for name, value in values)])


def command(keyword: str, words: Sequence[str]) -> str:
    """CMD and ENTRYPOINT: the words in quotes, as a Go list prints."""
    return f"{keyword} [{' '.join(quoted(word) for word in words)}]"


def plain_list(keyword: str, words: Sequence[str]) -> str:
    return f"{keyword} [{' '.join(words)}]"


def healthcheck(check: Healthcheck) -> str:
    """A Go struct of a test, four spans and a rune, which is how the count of retries prints."""
    test = " ".join(quoted(word) for word in check.test or ())
    spans = " ".join(
        f'"{go_span(span)}"'
        for span in (check.interval, check.timeout, check.start_period, check.start_interval)
    )
    return f"HEALTHCHECK &{{[{test}] {spans} {quoted_rune(check.retries)}}}"


def go_span(span_ns: int) -> str:
    """`1m0s`, `1.5s`, `300ms`, `0s`: a span as Go prints it."""
    if not span_ns:
        return "0s"
    if span_ns < 1_000_000_000:
        for scale, unit in ((1_000_000, "ms"), (1_000, "µs"), (1, "ns")):
            if span_ns >= scale:
                return f"{_decimal(span_ns, scale)}{unit}"
    text = ""
    rest = span_ns
    for scale, unit in _UNITS:
        if span_ns >= scale:
            text += f"{rest // scale}{unit}"
            rest %= scale
    return f"{text}{_decimal(rest, 1_000_000_000)}s"


def _decimal(value: int, scale: int) -> str:
    whole, fraction = divmod(value, scale)
    if not fraction:
        return str(whole)
    digits = str(fraction).rjust(len(str(scale)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
