"""Formats of tables in files: separators, words for missing values, formats of columns, types of Parquet."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cfdg_diffusion.cli.dates import DateFormat

MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""Cells that stand for a missing value unless others are named: the list of pandas.read_csv."""


@dataclass(frozen=True)
class CsvFormat:
    """Layout of a CSV file.

    Attributes:
        separator: of cells.
        decimal: the character before the decimals.
        thousands: the character between groups of three digits; empty for none.
        missing: cells that stand for a missing value.

    Raises:
        ValueError: if the characters cannot be told apart.
    """

    separator: str = ","
    decimal: str = "."
    thousands: str = ""
    missing: tuple[str, ...] = MISSING

    def __post_init__(self) -> None:
        for name in ("separator", "decimal"):
            character = getattr(self, name)
            if len(character) != 1 or character in '"\r\n\x1e\x1f' or character.isalnum():
                raise ValueError(f"--{name} is {character!r}, expected one character that separates")
        if self.thousands and (len(self.thousands) != 1 or self.thousands == self.decimal or self.thousands in '"\r\n'):
            raise ValueError(f"--thousands is {self.thousands!r}, expected one character other than --decimal")
        if any(character.isalnum() or character in "+-" for character in (self.decimal, self.thousands) if character):
            raise ValueError("--decimal or --thousands is a letter, a digit or a sign, expected another character")


@dataclass(frozen=True)
class ColumnFormat:
    """Form in which the cells of one column are written.

    Attributes:
        date: format of its dates; None for no dates, or for the default.
        missing: words for a missing value in this column alone; None for those of the file.
        decimals: digits after the point of every number; None for as many as there are.
        grouped: True if digits are in groups of three.
        truths: words for True and False.
    """

    date: DateFormat | None = None
    missing: tuple[str, ...] | None = None
    decimals: int | None = None
    grouped: bool = False
    truths: tuple[str, str] = ("True", "False")

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> ColumnFormat:
        """Rebuild a format from the JSON of :meth:`TableFormat.state`."""
        fields = dict(state)
        fields["date"] = None if state["date"] is None else DateFormat(**state["date"])
        fields["missing"] = None if state["missing"] is None else tuple(state["missing"])
        fields["truths"] = tuple(state["truths"])
        return cls(**fields)


PLAIN = ColumnFormat()


@dataclass(frozen=True)
class TableFormat:
    """Form in which the file of a table was written, to write others alike.

    Attributes:
        csv: layout of CSV files; None if the table came from another kind of file.
        columns: formats of columns by their name as text, where they are not plain.
        arrow: the serialised schema of a Parquet file as base64 text; None if the table came from another.
    """

    csv: CsvFormat | None = None
    columns: Mapping[str, ColumnFormat] = field(default_factory=dict)
    arrow: str | None = None

    @property
    def dates(self) -> dict[str, DateFormat]:
        """Formats of dates by column."""
        return {name: own.date for name, own in self.columns.items() if own.date is not None}

    def column(self, name: Hashable) -> ColumnFormat:
        """Return the format of a column."""
        return self.columns.get(str(name), PLAIN)

    def missing_words(self, name: Hashable) -> tuple[str, ...]:
        """Return the cells of a column that stand for a missing value, the one that is written first."""
        own = self.column(name).missing
        words = own if own is not None else MISSING if self.csv is None else self.csv.missing
        usual = [word for word in ("", "NA") if word in words]
        return tuple(dict.fromkeys([*usual, *words]))

    def state(self) -> dict[str, Any]:
        """Return JSON, as :meth:`restore` takes it."""
        columns = {name: asdict(own) for name, own in self.columns.items() if own != PLAIN}
        return {"csv": None if self.csv is None else asdict(self.csv), "columns": columns, "arrow": self.arrow}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> TableFormat:
        """Rebuild what :meth:`state` was taken of."""
        csv: dict[str, Any] | None = state["csv"]
        layout = None if csv is None else CsvFormat(**csv | {"missing": tuple(csv["missing"])})
        return cls(layout, {name: ColumnFormat.restore(own) for name, own in state["columns"].items()}, state["arrow"])


@dataclass(frozen=True)
class Choices:
    """Words of a user about the files of a command; None and empty leave the choice to the file.

    Attributes:
        kinds: kind of some columns by their name as text.
        separator: of cells.
        decimal: the character before the decimals.
        thousands: the character between groups of three digits.
        missing: cells that stand for a missing value, beside the empty one.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    missing: tuple[str, ...] | None = None

    def layout(self, usual: CsvFormat) -> CsvFormat:
        """Change a layout to what was said."""
        said = {name: getattr(self, name) for name in ("separator", "decimal", "thousands", "missing")}
        if self.missing is not None:
            said["missing"] = ("", *(word for word in self.missing if word))
        if self.thousands is None and self.decimal == usual.thousands:
            said["thousands"] = ""
        return replace(usual, **{name: value for name, value in said.items() if value is not None})
