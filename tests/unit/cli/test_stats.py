"""cli/stats.py: the rows of `skiff stats`."""

from skiff.cli.stats import listing, row, vanished
from skiff.cli.table import render

READING = {
    "id": "d6f5fd6a2f1a" + "0" * 52,
    "name": "/web",
    "memory_stats": {"usage": 1 << 20, "limit": 2 << 20},
    "pids_stats": {"current": 3},
}


def test_who_was_named_and_is_gone_keeps_a_row_without_figures() -> None:
    rows = [row("web", READING, None), vanished("web", READING)]
    there, gone = render(listing(truncate=True), rows, form="").splitlines()[1:]
    assert there.split() == [
        *("d6f5fd6a2f1a", "web", "0.00%", "1MiB", "/", "2MiB", "50.00%"),
        *("0B", "/", "0B", "0B", "/", "0B", "3"),
    ]
    assert gone.split() == ["d6f5fd6a2f1a", "web", "--", "--", "/", "--", "--", "--", "--", "--"]
    text = render(listing(truncate=True), rows[1:], form="{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}")
    assert text == "web -- -- / -- --\n"
