"""The items of a list as a template sees them, and the header row that a `table TEMPLATE` gets."""

from __future__ import annotations

from skiff.cli.template import Template, TemplateError
from skiff.cli.template_functions import Function
from skiff.cli.template_values import NOTHING, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.table import Listing


class Row(Record):
    """Computes a field when a template asks for it: to Go, its fields are methods."""

    escapes_html = True
    has_methods = True

    kind = ""

    def __init__(self, listing: Listing, item: object) -> None:
        super().__init__()
        self.listing = listing
        self.item = item
        self.kind = listing.kind

    def get(self, name: str, default: object = None) -> object:
        field = self.listing.fields.get(name)
        return field[1](self.item) if field else default

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(name for name in sorted(self.listing.fields) if not callable(self.get(name)))

    def __getitem__(self, name: str) -> object:
        return self.listing.fields[name][1](self.item)


class Header(Record):
    """The columns' names; what has none is <no value>."""

    def get(self, name: str, default: object = None) -> object:
        return super().get(name, NOTHING)


def row(listing: Listing, item: object) -> Row:
    return Row(listing, item)


def header(listing: Listing, source: str) -> str:
    """The template over the columns' names; functions that shape a value leave a header as it is."""
    names = Header(
        (name, _label if name == "Label" else title)
        for name, (title, _) in listing.fields.items()
        if title or name == "Label"
    )
    try:
        return Template(source, functions=_PLAIN).execute(names)
    except TemplateError as error:  # a mistake in a header is none in the rows
        return error.written


def _label(name: str) -> str:
    return name.split(".")[-1].replace("-", " ").replace("_", " ")


def _same(value: object, *others: object) -> object:
    return value


_PLAIN = {
    name: Function(_same, "any", "any", is_variadic=True)
    for name in ("json", "split", "join", "title", "lower", "upper", "pad", "truncate")
}
