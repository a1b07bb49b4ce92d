"""Docker's lists: a table, `table TEMPLATE`, `json`, `raw`, TEMPLATE, or ids alone.

Pure. The plain table needs no template engine: that one is loaded only for a template.
"""

from __future__ import annotations

from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    Field = tuple[str, Callable[[Any], Any]]

FORMAT = (
    "format",
    "",
    "string",
    "",
    """Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with \
templates""",
)
FORMAT_ONE = (
    "format",
    "f",
    "string",
    "",
    """Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with \
templates""",
)
LEAST_WIDTH = 10
GAP = 3


class FormatError(SkiffError):
    """A --format that cannot be parsed, or does not fit what is listed."""


class Listing:
    """What a list can show of each item.

    fields:  name in templates → (header, item → text); a callable result is a method, {{.Label "x"}}
    columns: the names of the default table
    quiet:   the name that -q shows
    raw:     the lines of `raw`: (label, name)
    kind:    what Go calls it, for messages
    nobody:  an item of which nothing is known
    """

    __slots__ = ("columns", "fields", "kind", "nobody", "quiet", "raw")

    def __init__(
        self,
        kind: str,
        fields: Mapping[str, Field],
        columns: Sequence[str],
        *,
        quiet: str = "ID",
        raw: Sequence[tuple[str, str]] = (),
        nobody: object = None,
    ) -> None:
        self.kind = kind
        self.fields = fields
        self.columns = columns
        self.quiet = quiet
        self.raw = raw
        self.nobody = nobody


def render(listing: Listing, items: Iterable[Any], *, form: str = "", quiet: bool = False) -> str:
    """The text, with its last newline. form: --format, before which quiet gives way. Raises FormatError."""
    fields = listing.fields
    if quiet and (form in ("", "table") or (form == "raw" and listing.raw)):
        _, act = fields[listing.quiet]
        label = [label for label, name in listing.raw if name == listing.quiet]
        mark = f"{label[0]}: " if form == "raw" else ""
        return "".join(f"{mark}{act(item)}\n" for item in items)
    if form in ("", "table"):
        chosen = [fields[name] for name in listing.columns]
        rows = [[header for header, _ in chosen]]
        rows += [[act(item) for _, act in chosen] for item in items]
        return aligned(rows)
    if form == "raw" and listing.raw:
        return "".join(
            "".join(f"{label}: {fields[name][1](item)}".rstrip(" ") + "\n" for label, name in listing.raw)
            + "\n"
            for item in items
        )
    if form == "json":
        return "".join(_json(listing, item) + "\n" for item in items)
    return _templated(listing, items, form)


def tried(listing: Listing, form: str) -> None:
    """Execute a --format on an item of which nothing is known. Raises FormatError."""
    from skiff.cli.template import Template, TemplateError
    from skiff.cli.template_rows import row

    try:
        template = Template(form)
    except TemplateError as error:
        raise FormatError(f"failed to parse template: {error}") from None
    try:
        template.execute(row(listing, listing.nobody))
    except TemplateError as error:
        raise FormatError(f"failed to execute template: {error}") from None


def _json(listing: Listing, item: object) -> str:
    from skiff.cli.template_values import to_json

    said = ((name, act(item)) for name, (_, act) in sorted(listing.fields.items()))
    return to_json({name: value for name, value in said if not callable(value)}, escape_html=True)


def _templated(listing: Listing, items: Iterable[Any], form: str) -> str:
    from skiff.cli.template import Template, TemplateError
    from skiff.cli.template_rows import header, row

    source = form.strip(" ").replace("\\t", "\t").replace("\\n", "\n")
    is_table = source.startswith("table")
    if is_table:
        source = source[len("table") :].strip(" ")
    try:
        template = Template(source)
        lines = [template.execute(row(listing, item)) for item in items]
    except TemplateError as error:
        raise FormatError(f"template parsing error: {error}") from None
    if not is_table:
        return "".join(line + "\n" for line in lines)
    lines.insert(0, header(listing, source))
    return aligned([line.split("\t") for text in lines for line in text.split("\n")])


def aligned(rows: Sequence[Sequence[str]], *, least: int = LEAST_WIDTH, gap: int = GAP) -> str:
    """Cells in columns. A column is a run of lines that have a cell there with another one behind it."""
    out: list[str] = [""] * len(rows)

    def block(first: int, last: int, column: int) -> None:
        at = first
        while at < last:
            cells = rows[at]
            if column >= len(cells) - 1:
                out[at] += cells[column] if column < len(cells) else ""
                at += 1
                continue
            end = at
            width = least
            while end < last and column < len(rows[end]) - 1:
                width = max(width, len(rows[end][column]) + gap)
                end += 1
            for line in range(at, end):
                out[line] += rows[line][column].ljust(width)
            block(at, end, column + 1)
            at = end

    block(0, len(rows), 0)
    return "".join(line + "\n" for line in out)
