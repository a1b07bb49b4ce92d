"""The items of a list as a template sees them, and the header row that a `table TEMPLATE` gets."""

from __future__ import annotations

from skiff.cli.template import Template
from skiff.cli.template_functions import Function
from skiff.cli.template_values import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.table import Listing


class Row(Record):
    """Computes a field when a template asks for it."""

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


def row(listing: Listing, item: object) -> Row:
    return Row(listing, item)


def header(listing: Listing, source: str) -> str:
    """The template over the columns' names; functions that shape a value leave a header as it is."""
    names = Record(
        (name, _label if name == "Label" else title) for name, (title, _) in listing.fields.items()
    )
    return Template(source, functions=_PLAIN).execute(names)


def _label(name: str) -> str:
    return name.split(".")[-1].replace("-", " ").replace("_", " ")


def _same(value: object, *others: object) -> object:
    return value


_PLAIN = {
    name: Function(_same, "any", "any", is_variadic=True)
    for name in ("json", "split", "join", "title", "lower", "upper", "pad", "truncate")
}
