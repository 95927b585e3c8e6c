from __future__ import annotations

import pytest

from cfdg_experiments.reports.published import PRINTED_TOTALS, TABLE_1, PublishedScore, paper_row, published


@pytest.mark.parametrize(("suite", "algorithm"), PRINTED_TOTALS)
def test_rows_add_up_to_the_printed_totals(suite, algorithm):
    rows = [arms for row, arms in TABLE_1[algorithm].items() if row.startswith("antmaze") == (suite == "antmaze")]
    for arm, printed in zip(("base", "cfdg"), PRINTED_TOTALS[suite, algorithm], strict=True):
        assert abs(sum(row[arm].mean for row in rows) - printed) <= 1


def test_the_table_is_complete():
    assert {name: len(rows) for name, rows in TABLE_1.items()} == {"iql": 16, "pex": 16, "apl": 12}


@pytest.mark.parametrize(
    ("dataset", "row"),
    [
        ("d4rl:hopper-medium-v2", "hopper-medium"),
        ("recorded:hopper-medium", "hopper-medium"),
        ("recorded:walker2d-medium-expert", "walker2d-medium-expert"),
        ("d4rl:antmaze-large-play-v2", "antmaze-large-play"),
        ("d4rl:hopper-medium-v0", None),
        ("d4rl:hopper-medium", None),
        ("d4rl:antmaze-umaze-v2", None),
        ("minari:mujoco/hopper/medium-v0", None),
        ("hopper-medium", None),
    ],
)
def test_which_row_stands_beside_a_dataset(dataset, row):
    assert paper_row(dataset) == row


def test_single_numbers():
    assert published("d4rl:hopper-medium-expert-v2", "iql", "cfdg") == PublishedScore(103, 17)
    assert published("d4rl:walker2d-random-v2", "pex", "cfdg") == PublishedScore(65, 37)
    assert published("d4rl:antmaze-large-play-v2", "apl", "base") is None
    assert published("recorded:hopper-medium", "iql", "synther") is None
