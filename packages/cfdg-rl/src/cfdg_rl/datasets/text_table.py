"""Tables in plain text: cells padded with spaces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """A table that can be written line by line, because its widths are fixed beforehand.

    Attributes:
        columns: format of each column: ``"<20"`` is left-aligned, ``">9"`` right-aligned, with a least width.
        gap: text between two columns.
    """

    columns: tuple[str, ...]
    gap: str = "  "

    def line(self, cells: Iterable[object]) -> str:
        """Pad one row's cells into a line.

        Raises:
            ValueError: if there are more or fewer cells than columns.
        """
        padded = [format(str(cell), column) for cell, column in zip(cells, self.columns, strict=True)]
        return self.gap.join(padded).rstrip() + "\n"

    def lines(self, rows: Iterable[Iterable[object]]) -> str:
        """Pad the cells of many rows into one text."""
        return "".join(self.line(row) for row in rows)
