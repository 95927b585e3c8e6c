"""Forms of a column: values of one type that are learnt as another, such as Arrow's integers or dates as text."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Protocol

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.columns.categories import MISSING, missing_name
from cfdg_diffusion.tabular.columns.date_formats import DateFormat, find_format
from cfdg_diffusion.tabular.columns.dtypes import Dtype, dtype_state, restore_dtype
from cfdg_diffusion.tabular.columns.plain import holds_decimals, plain, without_arrow

_EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)


class Form(Protocol):
    """Values of a user's column <-> values of a dtype that can be learnt."""

    @property
    def dtype(self) -> Dtype:
        """The dtype of the user's column."""
        ...

    def read(self, series: pd.Series) -> pd.Series:
        """Convert the user's values; others that are as good stay as they are.

        Raises:
            ValueError: if a value cannot be converted; the caller puts the column's name before the message.
        """
        ...

    def write(self, series: pd.Series) -> pd.Series:
        """Convert learnt values back."""
        ...

    def state(self) -> dict[str, Any]:
        """Return JSON, as :func:`restore_form` takes it."""
        ...


@dataclass(frozen=True)
class ArrowForm:
    """A column of Arrow's numbers, booleans, text, dates, times, durations or decimals.

    Attributes:
        dtype: ``pandas.ArrowDtype``.
    """

    dtype: Dtype

    def read(self, series: pd.Series) -> pd.Series:
        """Convert to NumPy's dtype, or to pandas' nullable one of integers, booleans and text."""
        return plain(series)

    def write(self, series: pd.Series) -> pd.Series:
        """Convert to the Arrow type."""
        return series.astype(self.dtype)

    def state(self) -> dict[str, Any]:
        """Return the serialised Arrow type."""
        import pyarrow as pa

        schema = pa.schema([("column", self.dtype.pyarrow_dtype)]).serialize().to_pybytes()
        return {"form": "arrow", "schema": base64.b64encode(schema).decode()}


@dataclass(frozen=True)
class DecimalForm:
    """A column of ``decimal.Decimal`` objects, learnt as integers or as float64.

    Attributes:
        digits: after the point; 0 or fewer are learnt as integers.
        precision: largest number of all digits.
        missing: the missing value, "None", "nan" or "NA".
    """

    digits: int
    precision: int
    missing: str

    @property
    def dtype(self) -> Dtype:
        """The dtype of objects."""
        return np.dtype(object)

    def read(self, series: pd.Series) -> pd.Series:
        """Convert to numbers."""
        return plain(series)

    def write(self, series: pd.Series) -> pd.Series:
        """Convert to decimals with as many digits, within the precision."""
        unit = Decimal(1).scaleb(-self.digits)
        most = _EXACT.multiply(Decimal(10) ** self.precision - 1, unit)
        values = np.empty(len(series), dtype=object)
        missing = series.isna().to_numpy()
        values[missing] = MISSING[self.missing]
        numbers = [Decimal(repr(number)) for number in series[~missing].tolist()]
        values[~missing] = [min(max(_EXACT.quantize(number, unit), -most), most) for number in numbers]
        return pd.Series(values, dtype=object)

    def state(self) -> dict[str, Any]:
        """Return all fields."""
        return {"form": "decimal", "digits": self.digits, "precision": self.precision, "missing": self.missing}


@dataclass(frozen=True)
class DateForm:
    """A column of texts or whole numbers that are dates, such as 31.12.2024 or 20241231.

    Attributes:
        dtype: of the texts or numbers.
        format: of the dates.
        missing: the missing value of objects, "None", "nan" or "NA".
    """

    dtype: Dtype
    format: DateFormat
    missing: str

    def read(self, series: pd.Series) -> pd.Series:
        """Convert to datetime64."""
        if series.dtype.kind in "mM":
            return series
        missing = series.isna().to_numpy()
        texts = date_texts(series[~missing], self.format)
        codes, distinct = pd.factorize(np.asarray(texts, dtype=object))
        days = np.full(len(series), "NaT", dtype=f"M8[{self.format.unit}]")
        days[~missing] = self.format.read(distinct.tolist())[codes]
        return pd.Series(days, index=series.index)

    def write(self, series: pd.Series) -> pd.Series:
        """Convert to the texts or numbers."""
        missing = series.isna().to_numpy()
        codes, distinct = pd.factorize(series[~missing].to_numpy())
        texts = np.array([*self.format.write(np.asarray(distinct)), ""], dtype=object)[:-1]
        values = np.empty(len(series), dtype=object)
        if pd.api.types.is_numeric_dtype(self.dtype):
            values[missing] = np.nan if self.dtype.kind == "f" else None
            values[~missing] = [int(text) for text in texts[codes]]
        else:
            values[missing] = MISSING[self.missing]
            values[~missing] = texts[codes]
        return pd.Series(values, dtype=self.dtype)

    def state(self) -> dict[str, Any]:
        """Return all fields."""
        own = {"dtype": dtype_state(self.dtype), "pattern": self.format.pattern, "missing": self.missing}
        return {"form": "date", **own}


def date_texts(series: pd.Series, written: DateFormat) -> list[str]:
    """List dates of N texts or whole numbers, without missing ones, as texts.

    Raises:
        ValueError: if they are neither.
    """
    if not pd.api.types.is_numeric_dtype(series.dtype):
        foreign = [value for value in series if not isinstance(value, str)]
        if foreign:
            raise ValueError(f"holds {foreign[0]}, expected a date written {written.pattern} as text")
        return series.tolist()
    width = len(written.write(np.array(["2000-12-31"], "M8[s]"))[0])
    values = series.to_numpy(dtype=np.float64)
    if series.dtype.kind == "b" or not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise ValueError(f"has dtype {series.dtype}, expected dates written {written.pattern} as whole numbers")
    return [f"{int(value):0{width}d}" for value in series.tolist()]


def learn_forms(series: pd.Series, kind: str | None) -> tuple[Form, ...]:
    """Find the forms of a column of at least one row, the outermost first; none if it is learnt as it is.

    Args:
        series: training rows.
        kind: "datetime" or "datetime:FORMAT" for dates as texts or numbers; other kinds change nothing.

    Raises:
        ValueError: if a value cannot be converted; the caller puts the column's name before the message.
    """
    forms: list[Form] = []
    dtype = series.dtype
    if isinstance(dtype, pd.ArrowDtype):
        forms.append(ArrowForm(dtype))
        series = without_arrow(series)
    if holds_decimals(series):
        forms.append(_decimal_form(series, dtype))
        series = plain(series)
    name, _, pattern = (kind if isinstance(kind, str) else "").partition(":")
    if name == "datetime" and series.dtype.kind not in "mM":
        forms.append(_date_form(series, pattern))
    return tuple(forms)


def _decimal_form(series: pd.Series, dtype: Dtype) -> DecimalForm:
    missing = missing_name(series)
    if isinstance(dtype, pd.ArrowDtype):
        stored: Any = dtype.pyarrow_dtype
        return DecimalForm(stored.scale, stored.precision, missing)
    digits = [-exponent for value in series.dropna() if isinstance(exponent := value.as_tuple().exponent, int)]
    return DecimalForm(max(max(digits, default=0), 0), 40, missing)


def _date_form(series: pd.Series, pattern: str) -> DateForm:
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype) or dtype.kind not in "OUiuf":
        raise ValueError(f"has dtype {dtype}, expected dates, or text or whole numbers that are dates")
    present = series.dropna()
    if pattern or dtype.kind in "iuf" or not len(present):
        written = DateFormat(pattern or "%Y%m%d")
    else:
        written = find_format(dict.fromkeys(map(str, present)))
    form = DateForm(dtype, written, missing_name(series))
    form.read(present)
    return form


def restore_form(state: Mapping[str, Any]) -> Form:
    """Rebuild what a form's ``state`` was taken of.

    Raises:
        ValueError: if the form is of another version, or needs pyarrow, which is not there.
    """
    own = dict(state)
    name = own.pop("form")
    if name == "decimal":
        return DecimalForm(**own)
    if name == "date":
        return DateForm(restore_dtype(own["dtype"]), DateFormat(own["pattern"]), own["missing"])
    if name != "arrow":
        raise ValueError(f"column has the form {name!r}, expected arrow, decimal or date")
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ValueError("the table has columns of Arrow's dtypes, which need pyarrow: pip install pyarrow") from error
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(own["schema"])))
    return ArrowForm(pd.ArrowDtype(schema.field(0).type))
