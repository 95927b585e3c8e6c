"""Tables of text: titles and lines for a terminal, in Markdown and in CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from cfdg_experiments.cells.results import plain


def rich_table(
    titles: Sequence[str],
    lines: Sequence[Sequence[str]] = (),
    *,
    title: str,
    foot: str | None = None,
    gap: int = 1,
    words: int = 1,
) -> Table:
    """Make a table for a terminal, whose first column is never broken.

    Args:
        titles: of the columns; one may hold a line break.
        lines: cells in the order of the titles; more can be added later.
        title: above the table.
        foot: below it.
        gap: spaces between columns.
        words: columns of words, aligned to the left; the others are numbers, aligned to the right.
    """
    table = Table(title=title, caption=foot, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    for index, name in enumerate(titles):
        table.add_column(name, justify="left" if index < words else "right", no_wrap=not index, overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def markdown_table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Write a table as GitHub Markdown, without a line end behind it."""
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rule, *lines))


def csv_table(titles: Sequence[str], records: Sequence[Mapping[str, object]]) -> str:
    """Write records as CSV with full float precision; NaN and absent values are empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, titles, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: "" if plain(value) is None else value for key, value in record.items()})
    return buffer.getvalue()
