"""Given cells: what a user's file has, copied to the output as text or as values of Arrow, never printed anew."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.csv_cells import plain_numbers
from cfdg_diffusion.cli.formats import CsvFormat


@dataclass(frozen=True)
class CsvCells:
    """N rows of a CSV file.

    Attributes:
        table: text of every cell, by the column names of the file.
        layout: of the file.
    """

    table: pd.DataFrame
    layout: CsvFormat

    def texts(self, name: str) -> list[str | None]:
        """Return the text of a column."""
        return self.table[name].tolist()

    def arrow(self, name: str) -> Any:  # noqa: ANN401
        """Return None: text has no type of Arrow."""


@dataclass(frozen=True)
class ArrowCells:
    """N rows of a Parquet file.

    Attributes:
        table: pyarrow's table.
    """

    table: Any

    def texts(self, name: str) -> list[str | None] | None:
        """Return whole numbers and decimals as text, in full; None for the other types, which pandas holds exactly."""
        import pyarrow

        column = self.table.column(name)
        types = pyarrow.types
        if types.is_integer(column.type) or types.is_decimal(column.type):
            return column.cast(pyarrow.string()).to_pylist()
        return None

    def arrow(self, name: str) -> Any:  # noqa: ANN401
        """Return a column with its type."""
        return self.table.column(name)


@dataclass(frozen=True)
class Given:
    """The cells of N rows that an output has to keep.

    Attributes:
        cells: of the user's file.
        generated: bool ``(N,)`` by column, True where the cell was generated; columns that are not named were generated
            as a whole.
        dtypes: of training by column.
    """

    cells: CsvCells | ArrowCells
    generated: Mapping[Hashable, np.ndarray]
    dtypes: Mapping[Hashable, Any]

    def texts(self, name: Hashable) -> tuple[list[str | None], np.ndarray] | None:
        """Return the text of a column and where it was generated; None if it has to be printed."""
        generated = self.generated.get(name)
        texts = None if generated is None else self.cells.texts(str(name))
        return None if generated is None or texts is None else (texts, generated)

    def decimals(self, name: Hashable, table: pd.DataFrame) -> list[str | None] | None:
        """Return the numbers of a column of text with a point, generated ones too; None if it is no text."""
        if not isinstance(self.cells, CsvCells) or name not in self.generated:
            return None
        numbers = plain_numbers(self.cells.table[str(name)], self.cells.layout)
        printed = [None if pd.isna(value) else str(value) for value in table[name]]
        kept = zip(numbers, printed, self.generated[name], strict=True)
        return [own if new or own is None else text for text, own, new in kept]

    def made(self, name: Hashable, table: pd.DataFrame) -> pd.Series:
        """Return the generated cells of a column, in the dtype of training."""
        part = table[name][self.generated[name]]
        return part.astype(self.dtypes[name]) if name in self.dtypes and len(part) and part.notna().all() else part

    def arrow(self, name: Hashable) -> tuple[Any, np.ndarray] | None:
        """Return the Arrow column and where it was generated; None if it has to be converted."""
        generated = self.generated.get(name)
        column = None if generated is None else self.cells.arrow(str(name))
        return None if generated is None or column is None else (column, generated)


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        table: as a model reads them; the columns have the names of training.
        cells: as they are in the file.
    """

    table: pd.DataFrame
    cells: CsvCells | ArrowCells
