"""Distances by hand, and what copies and near-copies do to the privacy scores."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")

from cfdg_diffusion.quality import privacy as module
from cfdg_diffusion.quality.privacy import nearest, points, privacy
from cfdg_diffusion.quality.tables import Column, read_tables

MIXED = (Column("x", "number"), Column("c", "category", ("a", "b")))


def draw(rows, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.normal(size=rows) for name in "xyz"})
    return frame.assign(c=np.where(frame["x"] + rng.normal(size=rows) > 0, "up", "down"))


def scores(train, synthetic, holdout):
    tables = read_tables(train, synthetic, holdout, 10)
    return privacy(tables, tables, 0)


def test_distance_counts_a_scaled_difference_and_a_mismatch():
    train = np.array([[0.0, 0], [1, 0], [2, 1], [3, 1], [4, 1]])
    a, b = points(MIXED, train, [np.array([[2.0, 0]]), np.array([[2.0, 1], [5, 0], [np.nan, 0]])])
    scale = 2 / 1.349
    far = np.arcsinh(3 / scale)
    assert nearest(a, b).back == pytest.approx([1, far, 1], abs=1e-6)  # other level; further away; missing
    assert nearest(b, a).first == pytest.approx([1, far, 1], abs=1e-6)


def test_nearest_agrees_with_all_pairs_whatever_the_block(monkeypatch):
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(size=(200, 3)), rng.integers(0, 4, 200)])
    columns = (*[Column(name, "number") for name in "xyz"], Column("c", "category", ("a", "b", "c", "d")))
    a, b = points(columns, values, [values[:90], values[90:]])
    squared = ((a.numbers[:, None] - b.numbers) ** 2).sum(2) + (a.codes[:, None] != b.codes).sum(2)
    ordered = np.sort(np.sqrt(squared), axis=1)
    monkeypatch.setattr(module, "_BLOCK", 700)
    found = nearest(a, b)
    assert found.first == pytest.approx(ordered[:, 0], abs=1e-6)
    assert found.second == pytest.approx(ordered[:, 1], abs=1e-6)
    assert found.back == pytest.approx(np.sqrt(squared.min(0)), abs=1e-6)


def test_a_fresh_draw_leaks_nothing():
    found = scores(draw(1500, 0), draw(1500, 1), draw(1500, 2))
    assert found.closest_to_train.low < 0.5 < found.closest_to_train.high
    assert found.membership.low < 0.5 < found.membership.high
    assert found.copies == 0
    assert found.distance == pytest.approx(found.distance_expected, rel=0.15)
    assert found.ratio == pytest.approx(found.ratio_expected, abs=0.05)


def test_copies_of_training_rows_are_caught():
    train = draw(600, 0)
    found = scores(train, train.sample(frac=1, random_state=0), draw(600, 1))
    assert (found.copies, found.copies_share, found.copies_expected) == (600, 1, 0)
    assert found.closest_to_train.value == 1
    assert found.membership.value == 1
    assert (found.distance, found.ratio) == (0, 0)


def test_near_copies_are_caught_although_no_row_is_equal():
    train = draw(600, 0)
    noise = np.random.default_rng(3).normal(0, 0.01, (600, 3))
    found = scores(
        train, train.assign(**dict(zip("xyz", (train[list("xyz")].to_numpy() + noise).T, strict=True))), draw(600, 1)
    )
    assert found.copies == 0
    assert found.closest_to_train.low > 0.9
    assert found.membership.low > 0.9
    assert found.ratio < found.ratio_expected / 2


def test_half_of_the_rows_copied_gives_three_quarters():
    train = draw(1000, 0)
    found = scores(train, pd.concat([train[:500], draw(500, 1)]), draw(1000, 2))
    assert found.copies_share == 0.5
    assert found.closest_to_train.value == pytest.approx(0.75, abs=0.04)
    assert found.membership.value == pytest.approx(0.75, abs=0.04)


def test_a_discrete_table_is_judged_by_what_real_rows_repeat():
    def coins(seed):
        return pd.DataFrame(np.random.default_rng(seed).integers(0, 2, (300, 4)).astype(bool), columns=list("abcd"))

    found = scores(coins(0), coins(1), coins(2))
    assert found.copies_share == found.copies_expected == 1
    assert found.closest_to_train.value == 0.5
    assert found.ratio == 1


def test_missing_values_and_signed_zeros_do_not_hide_a_copy():
    train = pd.DataFrame({"x": [0.0, np.nan, *range(2, 12)], "y": ["a", None, *"bcdefghijk"]})
    copied = train.assign(x=train["x"].replace(0.0, -0.0))
    assert scores(train, copied, train[::-1]).copies == 12


def test_training_and_holdout_rows_are_compared_in_equal_number():
    found = scores(draw(3000, 0), draw(500, 1), draw(200, 2))
    assert found.rows == 200
    assert found.closest_to_train.low < 0.5 < found.closest_to_train.high  # 3,000 against 200 would give 0.9
