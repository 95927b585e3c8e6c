"""Measures of the refreshes in a report: means where they exist, nothing where they do not."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from cfdg_experiments.reports.refreshes import has_refreshes, refresh_means, refresh_tables, refreshes_csv
from cfdg_experiments.reports.report import to_markdown


@pytest.fixture
def cells(made_up):
    nothing = np.full((3, 3), np.nan)
    measured = nothing.copy()
    measured[:, 1:] = [[1.0, 3.0], [2.0, 4.0], [3.0, 5.0]]
    base = replace(made_up.cell(), metrics={"train/episode_return": nothing, "refresh/rejected": nothing})
    cfdg = replace(
        made_up.cell(arm="cfdg"),
        metrics={"refresh/swd_online": measured, "refresh/seconds": np.array([np.nan, 1.0, 2.0])},
    )
    return [base, cfdg]


def test_means_are_over_seeds_and_refreshes(cells):
    assert refresh_means(cells[1]) == {"swd_online": 3.0, "seconds": 1.5}
    assert refresh_means(cells[0]) == {}


def test_the_report_has_them_only_where_they_exist(cells, made_up):
    header = made_up.header(datasets=("recorded:hopper-medium",))
    (table,) = refresh_tables(cells, header)
    assert table.columns == ("measure", "cfdg")
    assert table.lines == [["swd_online", "3"], ["seconds", "1.5"]]
    assert "what a refresh made" in to_markdown(cells, header)
    assert "what a refresh made" not in to_markdown(cells[:1], header)
    assert [has_refreshes(cells), has_refreshes(cells[:1])] == [True, False]


def test_csv_has_every_value(cells):
    records = list(csv.DictReader(io.StringIO(refreshes_csv(cells))))
    assert len(records) == 6 + 2
    assert {record["arm"] for record in records} == {"cfdg"}
    assert records[0] | {"value": 0} == {
        "dataset": "recorded:hopper-medium",
        "algorithm": "iql",
        "arm": "cfdg",
        "seed": "0",
        "step": "100",
        "metric": "swd_online",
        "value": 0,
    }
    assert [record["seed"] for record in records[6:]] == ["", ""]
