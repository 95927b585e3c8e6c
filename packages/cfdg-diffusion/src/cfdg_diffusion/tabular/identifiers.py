"""Identifiers: columns of levels in which nearly every row has a value of its own, such as names or text ids."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import dataclass

from cfdg_diffusion.tabular.columns.column import Column
from cfdg_diffusion.tabular.schema import TableSchema

FEWEST_ROWS = 50
"""Rows with a value from which on a column may be an identifier; in fewer, values differ by chance."""
LEAST_SHARE = 0.95
"""Least share of different values among them."""
_LEVELS = ("category", "text")


@dataclass(frozen=True)
class Identifier:
    """A column that may identify its rows.

    Attributes:
        column: its name.
        distinct: number of different values in training.
        present: number of training rows with a value.
        rows: number of training rows.
    """

    column: Hashable
    distinct: int
    present: int
    rows: int

    @property
    def finding(self) -> str:
        """The fault as a sentence without a full stop, to be continued by its remedy."""
        every = self.distinct == self.rows
        found = "every row has its own value" if every else f"{self.distinct:,} values differ in {self.present:,} rows"
        return f"{found}; values come back word for word and are in the model file"


class IdentifierWarning(UserWarning):
    """Warning of a column whose values may identify the training rows, and come back.

    Attributes:
        identifier: the column and its numbers.
    """

    def __init__(self, identifier: Identifier) -> None:
        super().__init__(f"column {identifier.column!r}: {identifier.finding}: drop it before fit")
        self.identifier = identifier


def identifiers(schema: TableSchema) -> list[Identifier]:
    """Find the columns of at least 50 values, of which 95 % differ, among the levels that training rows have.

    Args:
        schema: as learnt from the training rows; one that was renewed counts other rows.
    """
    codecs = [codec for codec in (schema.labels.codec, schema.codec) if codec is not None]
    columns = [column for codec in codecs for column in codec.columns if column.kind in _LEVELS]
    found = [_counted(column, schema.rows) for column in columns]
    return [own for own in found if own.present >= FEWEST_ROWS and own.distinct >= LEAST_SHARE * own.present]


def warn_of_identifiers(schema: TableSchema, stacklevel: int) -> None:
    """Give an :class:`IdentifierWarning` of each such column, which names the caller ``stacklevel`` calls above."""
    for found in identifiers(schema):
        warnings.warn(IdentifierWarning(found), stacklevel=stacklevel + 1)


def _counted(column: Column, rows: int) -> Identifier:
    present = round(rows * (1 - column.missing_share))
    return Identifier(column.name, len(column.components[0].levels), present, rows)
