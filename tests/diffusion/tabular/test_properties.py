"""Random tables through fit, save, load and sample: whatever goes in, the same kind of table comes out."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfdg_diffusion import DiffusionSettings, TabularDiffusion, TabularSettings

TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=16, sampling_steps=4, guidance_weight=0.0)
)
QUIET = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
pytestmark = pytest.mark.filterwarnings("ignore::cfdg_diffusion.IdentifierWarning")  # random texts may all differ


def numbers(rng, rows):
    return pd.Series(np.exp(rng.normal(0, 3, rows)) * rng.choice([-1, 1], rows))


def decimals(rng, rows):
    return pd.Series(rng.normal(0, 50, rows).round(2))


def spiked(rng, rows):
    return pd.Series(np.where(rng.random(rows) < 0.6, 0.0, rng.exponential(1e5, rows)))


def integers(rng, rows):
    return pd.Series(rng.integers(-5, 400, rows).astype(rng.choice(["int64", "int32", "int16"])))


def nullable(rng, rows):
    return pd.Series(rng.integers(0, 90, rows)).astype(str(rng.choice(["Int64", "Int32", "Float64", "UInt16"])))


def booleans(rng, rows):
    return pd.Series(rng.random(rows) < 0.3).astype(str(rng.choice(["bool", "boolean"])))


def texts(rng, rows):
    words = np.array([f"word {index}" for index in range(rng.integers(1, 40))], dtype=object)
    return pd.Series(rng.choice(words, rows)).astype(str(rng.choice(["object", "string", "str"])))


def categories(rng, rows):
    names = ["small", "medium", "large", "never"]
    return pd.Series(pd.Categorical(rng.choice(names[:3], rows), names, ordered=bool(rng.random() < 0.5)))


def dates(rng, rows):
    days = pd.Series(pd.Timestamp("2001-02-03") + pd.to_timedelta(rng.integers(0, 4000, rows), "D"))
    return days if rng.random() < 0.5 else days.dt.tz_localize("Europe/Paris")


def durations(rng, rows):
    return pd.Series(pd.to_timedelta(rng.integers(0, 10**6, rows), "s"))


def constants(rng, rows):
    return pd.Series([rng.choice([0, 7])] * rows)


LABELS = [integers, booleans, texts, categories]
MAKERS = [numbers, decimals, spiked, integers, nullable, booleans, texts, categories, dates, durations, constants]


@st.composite
def tables(draw):
    """A table, the names of its label columns, and a seed."""
    rows = draw(st.one_of(st.integers(1, 6), st.integers(7, 200)))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    makers = draw(st.lists(st.sampled_from(MAKERS), min_size=1, max_size=5))
    labels = draw(st.lists(st.sampled_from([*LABELS, numbers]), max_size=2))
    names = [f"column {index}" for index in range(len(makers))] + [f"label {index}" for index in range(len(labels))]
    table = pd.DataFrame({name: make(rng, rows) for name, make in zip(names, [*makers, *labels], strict=True)})
    for name in draw(st.sets(st.sampled_from(names[: len(makers)]))):
        if table[name].dtype.kind not in "iub" or table[name].dtype.name[0].isupper():
            table[name] = table[name].mask(rng.random(rows) < draw(st.sampled_from([0.1, 0.5, 1.0])))
    table = table[list(rng.permutation(names))]
    table.index = pd.Index(rng.integers(0, 9, rows))
    return table, names[len(makers) :], seed


def fitted(table, labels, seed=0):
    return TabularDiffusion(seed=seed, settings=TINY).fit(table, label=labels, steps=3)


def decimals_of(series):
    """Digits after the point that the present numbers need, up to six."""
    present = series.dropna().to_numpy(dtype=np.float64)
    return next((k for k in range(6) if np.allclose(present, present.round(k), rtol=0, atol=1e-9)), 6)


def check_like(made, table):
    """The same kind of table."""
    assert made.columns.equals(table.columns)
    assert made.dtypes.tolist() == table.dtypes.tolist()
    for name in table.columns:
        new = made[name]
        old = table[name]
        assert old.isna().any() or not new.isna().any()
        assert not old.isna().all() or new.isna().all()
        if isinstance(old.dtype, pd.CategoricalDtype) or old.dtype.kind == "O":
            assert set(new.dropna()) <= set(old.dropna()), name
        elif old.dtype.kind == "f" and old.notna().any():
            assert np.isfinite(new.dropna().to_numpy(dtype=np.float64)).all()
            assert decimals_of(new) <= decimals_of(old) or decimals_of(old) == 6


@QUIET
@given(tables())
def test_a_table_survives_fit_save_load_and_sample(case):
    table, labels, seed = case
    model = fitted(table, labels, seed)
    made = model.sample(9, seed=3)
    check_like(made, table)
    pd.testing.assert_frame_equal(made, model.sample(9, seed=3))
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.safetensors")
        loaded = TabularDiffusion.load(Path(folder) / "model.safetensors")
    pd.testing.assert_frame_equal(loaded.sample(9, seed=3), made)
    pd.testing.assert_frame_equal(loaded.sample(4), model.sample(4))
    assert loaded.describe() == model.describe()
    if seed % 4 == 0:
        again = fitted(table, labels, seed)
        pd.testing.assert_frame_equal(again.sample(9, seed=3), made)


@QUIET
@given(tables())
def test_labels_come_exactly_as_asked(case):
    table, labels, seed = case
    model = fitted(table, labels, seed)
    if not labels:
        assert len(model.sample(5)) == 5
        return
    asked = table[labels].iloc[np.random.default_rng(seed).integers(0, len(table), 6)].reset_index(drop=True)
    made = model.sample(labels=asked if len(labels) > 1 else asked[labels[0]], seed=1)
    pd.testing.assert_frame_equal(made[labels], asked)
    check_like(made, table)
    value = dict(asked.iloc[0])
    made = model.sample(3, label=value if len(labels) > 1 else value[labels[0]], seed=1)
    pd.testing.assert_frame_equal(made[labels], asked.iloc[[0, 0, 0]].reset_index(drop=True))
    check_like(model.sample(4, balance=True), table)


@QUIET
@given(tables(), st.data())
def test_fixed_cells_stay_exactly_as_they_are(case, data):
    table, labels, seed = case
    model = fitted(table, labels, seed)
    fix = data.draw(st.lists(st.sampled_from(list(table.columns)), min_size=1, unique=True))
    like = table.head(7)
    made = model.sample(like=like, fix=fix, seed=0, steps=4)
    check_like(made, table)
    pd.testing.assert_frame_equal(made[fix], like[fix].reset_index(drop=True))


@QUIET
@given(tables())
def test_imputing_keeps_what_is_there_and_leaves_no_hole(case):
    table, labels, seed = case
    model = fitted(table, labels, seed)
    rng = np.random.default_rng(seed)
    holes = table.head(12).copy()
    for name in [name for name in table.columns if name not in labels]:
        if holes[name].dtype.kind in "iub" and not holes[name].dtype.name[0].isupper():
            holes[name] = holes[name].astype("Float64" if holes[name].dtype.kind != "b" else "boolean")
        holes[name] = holes[name].mask(rng.random(len(holes)) < 0.4)
    filled = model.impute(holes, seed=0)
    assert filled.index.equals(holes.index)
    assert filled.columns.equals(holes.columns)
    for name in holes.columns:
        there = holes[name].notna().to_numpy()
        assert filled[name][there].tolist() == holes[name][there].tolist()
        if holes[name].isna().any():
            assert filled[name].dtype == table[name].dtype
            assert table[name].isna().all() or filled[name].notna().all()


@settings(QUIET, max_examples=12)
@given(
    steps=st.sampled_from([("1D", "1h"), ("6h", "1min"), ("1h", "1s"), ("1s", "1ms"), ("12h", "1us")]),
    zone=st.sampled_from([None, "UTC", "Europe/Paris"]),
    moves=st.lists(st.integers(-5000, 5000), min_size=1, max_size=4),
)
def test_given_dates_of_any_fineness_are_kept(steps, zone, moves):
    """Training's dates are whole days, hours or seconds; a given one lies between them."""
    coarse, fine = map(pd.Timedelta, steps)
    start = pd.Timestamp("2024-03-01", tz=zone).as_unit("us")
    known = pd.DataFrame({"d": [start + row * coarse for row in range(40)], "x": np.r_[np.nan, np.arange(39.0)]})
    model = TabularDiffusion(settings=TINY, device="cpu").fit(known, steps=1)
    given = pd.DataFrame({"d": pd.Series([start + move * fine for move in moves]), "x": np.nan})
    assert model.impute(given)["d"].tolist() == given["d"].tolist()
    assert model.sample(like=given, fix=["d"])["d"].tolist() == given["d"].tolist()
