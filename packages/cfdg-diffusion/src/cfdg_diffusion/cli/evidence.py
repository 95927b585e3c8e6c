"""Evidence of the kind of a column of text, gathered from its cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.dates import ISO, ISO_PARTS, UNITS, DateFormat, Unit, unit_of
from cfdg_diffusion.cli.formats import ColumnFormat, CsvFormat

_BETWEEN = "\x1f"  # ASCII's separator of units, rarely in a cell
_FITS = ("boolean", "integer", "number", "date")
_INFINITE = r"[+-]?(?:inf|Inf|INF|infinity|Infinity)"
_WHOLE = r"(?:0|[1-9][0-9]{0,17}|[1-8][0-9]{18})"  # no zero in front: 01234 is a code; below 2^63
_PLUS = r" *\+.*"
_BARE = r" *[+-]?[0-9]+(?:E[+-]?|e)[0-9]+ *"  # 1e-06 is how programs write a number
_MOST_DECIMALS = 15
_STYLES = {"True": ("True", "False"), "TRUE": ("TRUE", "FALSE"), "true": ("true", "false")}
_STYLES |= {pair[1]: pair for pair in list(_STYLES.values())}


@lru_cache
def _patterns(decimal: str, thousands: str) -> dict[str, re.Pattern[str]]:
    """Compile patterns that find the first of the joined cells that is something else, without a stack."""
    point = re.escape(decimal)
    grouped = f"|[1-9][0-9]{{0,2}}(?:{re.escape(thousands)}[0-9]{{3}}){{1,5}}" if thousands else ""
    integer = f" *[+-]?(?:{_WHOLE}{grouped}) *"
    mantissa = f"(?:0|[1-9][0-9]*{grouped}){point}[0-9]*|{point}[0-9]+|(?:0|[1-9][0-9]*)(?=[eE])"
    number = f"{integer}| *[+-]?(?:{mantissa})(?:[eE][+-]?[0-9]+)? *|{_INFINITE}"
    truths = "|".join(_STYLES)
    own = {"boolean": truths, "integer": integer, "number": number, "date": ISO, "plus": _PLUS, "bare": _BARE}
    own["canonical"] = "0|-?[1-9][0-9]{0,17}"
    own["fixed"] = f" *[+-]?(?:0|[1-9][0-9]*{grouped}){point}[0-9]+ *"
    return {
        holds: re.compile(f"{_BETWEEN}(?!(?:{pattern}){_BETWEEN}|\\Z)", re.DOTALL) for holds, pattern in own.items()
    }


@dataclass
class Evidence:
    """Possible kinds of one column of text, gathered from any number of chunks.

    A sign + or a mantissa without a point (1E5) in all cells is a code, not a number.

    Attributes:
        csv: characters of its numbers.
        fits: those of "boolean", "integer", "number" and "date" that all cells so far can be read as.
        codes: those of "plus" and "bare" that all cells so far are.
        present: True if some cell has a value.
        missing: True if some cell has none.
        units: finest parts that the dates are written with.
        separators: characters between their dates and times.
        zones: their offsets from UTC, "" for none.
        decimals: numbers of digits after the point, -1 for a number that is written otherwise.
        grouped: True if some digits are in groups.
        truths: words for booleans.
        canonical: True if all cells are whole numbers as Python prints them.
    """

    csv: CsvFormat = field(default_factory=CsvFormat)
    fits: set[str] = field(default_factory=lambda: set(_FITS))
    codes: set[str] = field(default_factory=lambda: {"plus", "bare"})
    present: bool = False
    missing: bool = False
    units: set[Unit] = field(default_factory=set)
    separators: set[str] = field(default_factory=set)
    zones: set[str] = field(default_factory=set)
    decimals: set[int] = field(default_factory=set)
    grouped: bool = False
    truths: set[tuple[str, str]] = field(default_factory=set)
    canonical: bool = True

    def add(self, cells: pd.Series) -> None:
        """Take more cells ``(N,)`` of text into account, None where they are missing."""
        self.missing = self.missing or bool(cells.isna().any())
        self.present = self.present or bool(cells.notna().any())
        distinct = list(cells.dropna().unique()) if self.fits else []
        if not distinct:
            return
        joined = _BETWEEN.join(["", *distinct, ""])
        if joined.count(_BETWEEN) > len(distinct) + 1:  # the separator stands in a cell
            self.fits.clear()
        patterns = _patterns(self.csv.decimal, self.csv.thousands)
        self.fits = {holds for holds in self.fits if not patterns[holds].search(joined)}
        self.canonical = self.canonical and not patterns["canonical"].search(joined)
        self.codes = {code for code in self.codes if not patterns[code].search(joined)}
        if "date" in self.fits:
            self._add_dates(distinct)
        if "boolean" in self.fits:
            self.truths |= {_STYLES[cell] for cell in distinct}
        elif "number" in self.fits:
            self._add_numbers(distinct, not patterns["fixed"].search(joined))

    def _add_dates(self, distinct: Sequence[str]) -> None:
        parts = [part for part in map(ISO_PARTS.fullmatch, distinct) if part]
        try:
            np.array([part[1] for part in parts], dtype="M8[s]")
        except ValueError:  # the calendar has no 30 February, although it looks like a date
            self.fits.discard("date")
            return
        self.units |= {unit_of(part[3]) for part in parts}
        self.separators |= {part[2] for part in parts if part[2]}
        self.zones |= {part[4] or "" for part in parts}

    def _add_numbers(self, distinct: Sequence[str], fixed: bool) -> None:
        thousands = self.csv.thousands
        self.grouped = self.grouped or bool(thousands and any(thousands in cell for cell in distinct))
        if len(self.decimals) < 2:
            point = self.csv.decimal
            self.decimals |= {len(cell.strip().partition(point)[2]) for cell in distinct} if fixed else {-1}

    @property
    def holds(self) -> str:
        """The kind: "empty", "boolean", "integer", "number", "date" or "text"."""
        if not self.present:
            return "empty"
        if self.codes and self.fits & {"integer", "number"}:
            return "text"
        for kind in ("boolean", "integer", "number"):
            if kind in self.fits:
                return kind
        return "text" if self.date is None else "date"

    @property
    def date(self) -> DateFormat | None:
        """The format of the dates, None if the column holds others; several offsets become that of UTC."""
        if not self.units or "date" not in self.fits or ("" in self.zones and len(self.zones) > 1):
            return None
        unit = max(self.units, key=UNITS.index)
        zone = next(iter(self.zones)) if len(self.zones) == 1 else "+00:00"
        return DateFormat(unit, min(self.separators, default="T"), zone)

    @property
    def format(self) -> ColumnFormat:
        """The format that the cells have in common."""
        holds = self.holds
        if holds == "date":
            return ColumnFormat(date=self.date)
        if holds == "boolean":
            return ColumnFormat(truths=next(iter(self.truths)) if len(self.truths) == 1 else ("True", "False"))
        if holds not in ("integer", "number"):
            return ColumnFormat()
        fixed = next(iter(self.decimals)) if holds == "number" and len(self.decimals) == 1 else -1
        return ColumnFormat(decimals=fixed if 0 < fixed <= _MOST_DECIMALS else None, grouped=self.grouped)

    @property
    def keeps_its_text(self) -> bool:
        """True if booleans and whole numbers are printed as they were read, so that a category may hold them so."""
        return len(self.truths) == 1 if self.holds == "boolean" else self.holds == "integer" and self.canonical
