"""Columns in which nearly every row has a value of its own are told before they are learnt."""

import warnings

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion import CodecSettings, IdentifierWarning, TabularDiffusion
from cfdg_diffusion.quality import identifiers as of_reports
from cfdg_diffusion.tabular import identifiers as of_fits
from cfdg_diffusion.tabular.identifiers import identifiers
from cfdg_diffusion.tabular.schema import TableSchema


def table(rows, distinct, missing=0):
    """A column of texts with so many different values, beside a number that has a value for each row."""
    ids = pd.Series([f"C-{row % distinct:05}" for row in range(rows)], dtype=object)
    ids[rows - missing :] = None
    return pd.DataFrame({"id": ids, "x": np.linspace(0, 1, rows)})


def found(own, label=None, kinds=None):
    return identifiers(TableSchema.learn(own, label, kinds, CodecSettings()))


@pytest.mark.parametrize(
    ("own", "is_found"),
    [
        (table(50, 50), True),
        (table(49, 49), False),
        (table(100, 95), True),
        (table(100, 94), False),
        (table(100, 100, missing=50), True),
        (table(100, 100, missing=51), False),
        (table(100, 100).astype({"id": "category"}), True),
        (table(100, 100).head(10).astype({"id": pd.CategoricalDtype(table(100, 100)["id"])}), False),
        (table(100, 100).astype({"id": "string"}), True),
    ],
)
def test_a_column_is_an_identifier_from_fifty_rows_and_a_share_of_differing_values_on(own, is_found):
    assert [one.column for one in found(own)] == ["id"] * is_found


def test_numbers_and_dates_are_none_unless_they_are_categories():
    days = pd.date_range("2024-01-01", periods=60)
    own = pd.DataFrame({"n": range(60), "day": days, "text": days.strftime("%Y%m%d")})
    assert [one.column for one in found(own)] == ["text"]
    assert [one.column for one in found(own, kinds={"n": "category", "text": "datetime"})] == ["n"]


def test_a_label_may_identify_as_well():
    assert [one.column for one in found(table(60, 60), label="id")] == ["id"]


def test_the_finding_counts_rows_and_values():
    assert found(table(1000, 1000))[0].finding.startswith("every row has its own value; values come back word for word")
    assert found(table(2000, 1990, missing=10))[0].finding.startswith("1,990 values differ in 1,990 rows; ")


def test_a_fit_warns_of_each_identifier_at_the_line_of_the_caller():
    model = TabularDiffusion(device="cpu")
    own = table(60, 60).assign(name=[f"N {row}" for row in range(60)])
    with pytest.warns(IdentifierWarning) as told:
        model.fit(own, steps=1)
    assert [str(warning.message).split(":")[0] for warning in told] == ["column 'id'", "column 'name'"]
    assert {warning.filename for warning in told} == {__file__}
    assert "word for word and are in the model file: drop it before fit" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(own, steps=1, warm_start=True)
        model.fit(own[["x"]], steps=1)


def test_fits_and_reports_call_the_same_columns_identifiers():
    for name in ("FEWEST_ROWS", "LEAST_SHARE"):
        assert getattr(of_fits, name) == getattr(of_reports, name)
