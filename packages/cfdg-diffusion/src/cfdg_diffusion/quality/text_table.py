"""Text tables: rows of cells padded into columns."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Pad every column to its widest cell, text on the left.

    Args:
        rows: cells, as many in every row.
        gap: text between two columns.

    Returns:
        One line for each row, without spaces at its end.

    Raises:
        ValueError: if the rows differ in length.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
