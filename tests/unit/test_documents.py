"""The documents keep step with the code: the tree in docs/architecture.md names every file, in its own words.

`pytest --update-golden tests/unit/test_documents.py` writes it anew.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "skiff"
PAGE = ROOT / "docs" / "architecture.md"
TREE = re.compile(r"(?<=<!-- tree -->\n```\n).*?(?=```\n<!-- /tree -->)", re.DOTALL)
LONGEST = 100


def first_words(path: Path) -> str:
    """The first sentence of a module's docstring, on one line; its first half if it is long."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    line = re.split(r"(?<=\.) ", " ".join(text.split("\n\n")[0].split()))[0].rstrip(".:")
    return (
        line
        if len(line) <= LONGEST
        else line[: max(line.rfind(mark, 0, LONGEST) for mark in (", ", "; ", ": ", " "))]
    )


def tree() -> str:
    lines: list[str] = []

    def folder(path: Path, depth: int) -> None:
        indent = "    " * depth
        files = sorted(p for p in path.glob("*.py") if p.name != "__init__.py")
        for file in files:
            name = f"{indent}{file.name}"
            lines.append(f"{name:<36} {first_words(file)}")
        for inner in sorted(p for p in path.iterdir() if p.is_dir() and any(p.rglob("*.py"))):
            lines.append(f"{indent}{inner.name}/")
            folder(inner, depth + 1)

    folder(SRC, 0)
    return "\n".join(lines) + "\n"


def test_the_tree_names_every_file(request: pytest.FixtureRequest) -> None:
    page = PAGE.read_text()
    found = TREE.search(page)
    assert found is not None
    if request.config.getoption("--update-golden"):
        PAGE.write_text(page[: found.start()] + tree() + page[found.end() :])
        return
    assert found[0] == tree(), "run pytest --update-golden tests/unit/test_documents.py"


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_every_file_says_what_it_is(path: Path) -> None:
    if path.name != "__init__.py":
        assert first_words(path)


LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("*.md")), ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
