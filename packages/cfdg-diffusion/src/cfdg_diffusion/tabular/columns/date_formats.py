"""Date formats: texts and whole numbers such as 31.12.2024 or 20241231 <-> datetimes, by strptime's directives."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WRITERS = {
    "Y": lambda day: f"{day.year:04d}",
    "y": lambda day: f"{day.year % 100:02d}",
    "m": lambda day: f"{day.month:02d}",
    "d": lambda day: f"{day.day:02d}",
    "B": lambda day: _MONTHS[day.month - 1],
    "b": lambda day: _MONTHS[day.month - 1][:3],
    "j": lambda day: f"{day.timetuple().tm_yday:03d}",
    "H": lambda day: f"{day.hour:02d}",
    "I": lambda day: f"{(day.hour - 1) % 12 + 1:02d}",
    "p": lambda day: "PM" if day.hour >= 12 else "AM",
    "M": lambda day: f"{day.minute:02d}",
    "S": lambda day: f"{day.second:02d}",
    "f": lambda day: f"{day.microsecond:06d}",
    "%": lambda day: "%",
}
"""Digits, since strftime's own depend on the system: it writes the year 1 as 1 on Linux."""
_DIRECTIVE = re.compile(r"%(-?)(.)")
_USUAL = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S")


@dataclass(frozen=True)
class DateFormat:
    """A format of dates.

    Attributes:
        pattern: directives of ``strptime`` such as ``%d.%m.%Y``; ``%-d`` writes a number without leading zeros.

    Raises:
        ValueError: if a directive is not known, or year, month and day are not all there.
    """

    pattern: str

    def __post_init__(self) -> None:
        names = [match[2] for match in _DIRECTIVE.finditer(self.pattern)]
        unknown = [name for name in names if name not in _WRITERS]
        has = set(names).intersection
        if unknown or not has("Yy") or not (has("j") or (has("d") and has("mbB"))):
            raise ValueError(
                f"has the date format {self.pattern!r}, expected year, month and day such as %d.%m.%Y or %Y%m%d, "
                f"of {', '.join('%' + name for name in _WRITERS)}"
            )

    @property
    def unit(self) -> str:
        """The unit of datetime64 that holds every part."""
        return "us" if "%f" in self.pattern else "s"

    def read(self, texts: Iterable[str]) -> np.ndarray:
        """Parse texts as datetime64 ``(N,)``.

        Raises:
            ValueError: if one is not written so; 5.7.2024 is not written ``%d.%m.%Y``, which gives 05.07.2024.
        """
        pattern = self.pattern.replace("%-", "%")
        days = []
        for text in texts:
            try:
                day = datetime.strptime(text, pattern)
            except ValueError:
                day = None
            if day is None or self._text(day) != text:
                raise ValueError(f"holds {text!r}, expected a date written {self.pattern}")
            days.append(day)
        return np.array(days, dtype=f"M8[{self.unit}]")

    def write(self, days: np.ndarray) -> list[str]:
        """Format datetime64 ``(N,)`` of the years 1 to 9999."""
        return [self._text(day) for day in days.astype("M8[us]").tolist()]

    def _text(self, day: datetime) -> str:
        def part(match: re.Match[str]) -> str:
            text = _WRITERS[match[2]](day)
            return (text.lstrip("0") or "0") if match[1] else text

        return _DIRECTIVE.sub(part, self.pattern)


def find_format(texts: Iterable[str]) -> DateFormat:
    """Find the only usual format that all texts have.

    Raises:
        ValueError: if there is none, or several.
    """
    distinct = list(texts)
    formats = [DateFormat(day + time) for time in _TIMES for day in _USUAL]
    fits = [own for own in formats if _fits(own, distinct)]
    if len(fits) == 1:
        return fits[0]
    example = distinct[0] if distinct else ""
    if fits:
        several = " or ".join(own.pattern for own in fits)
        raise ValueError(f"holds {example!r} and the like, which could be {several}, expected one: 'datetime:FORMAT'")
    raise ValueError(f"holds {example!r} and the like, expected dates of one usual format, or 'datetime:FORMAT'")


def _fits(own: DateFormat, texts: list[str]) -> bool:
    try:
        own.read(texts)
    except ValueError:
        return False
    return True
