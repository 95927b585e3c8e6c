"""A model that threads share gives each seeded call what one thread gives, and keeps apart what is counted."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cfdg_diffusion import DiffusionSettings, Range, SampleReport, TabularDiffusion, TabularSettings

TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=32, sampling_steps=4, guidance_weight=0.0)
)


def some_table(rows=80):
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b"], rows)
    return pd.DataFrame({"x": rng.normal(size=rows), "n": rng.integers(0, 50, rows), "y": labels})


@pytest.fixture(scope="module")
def model():
    return TabularDiffusion(settings=TINY, constraints=[Range("x", -1.0, None)]).fit(some_table(), label="y", steps=3)


def holes(seed):
    table = some_table().head(20)
    table["x"] = table["x"].mask(np.random.default_rng(seed).random(20) < 0.3)
    return table


CALLS = {
    "sample": lambda model, seed, report: model.sample(150, seed=seed, report=report),
    "of a label": lambda model, seed, report: model.sample(150, label="a", seed=seed, report=report),
    "kept columns": lambda model, seed, report: model.sample(
        like=some_table(), fix=["n", "y"], seed=seed, report=report
    ),
    "impute": lambda model, seed, report: model.impute(holes(seed), seed=seed, report=report),
    "stream": lambda model, seed, report: pd.concat(model.stream(150, chunk=40, seed=seed, report=report)),
    "no seed": lambda model, seed, report: model.sample(60),
}


def made(model, call):
    name, seed = call
    report = SampleReport()
    return CALLS[name](model, seed, report), report


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(sorted(CALLS)), st.integers(0, 5)), min_size=4, max_size=9))
def test_kind_g_shared_state(model, calls):
    """Seeded calls of several threads give the rows and the counts that one thread gives."""
    alone = copy.deepcopy(model)
    expected = [made(alone, call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda call: made(model, call), calls))
    for (name, _), (table, report), (other, counts) in zip(calls, found, expected, strict=True):
        if name != "no seed":
            assert_frame_equal(table, other)
            assert report == counts


def test_one_seed_per_thread(model):
    expected = [model.sample(1000, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: model.sample(1000, seed=seed), range(6)))
    for table, other in zip(found, expected, strict=True):
        assert_frame_equal(table, other)


def test_calls_without_a_seed_go_on_where_the_latest_seeded_call_ended(model):
    first = pd.concat([model.sample(10, seed=4), model.sample(10)])
    again = pd.concat([model.sample(10, seed=4), model.sample(10)])
    assert_frame_equal(first, again)
    assert not first.head(10).equals(first.tail(10))


def test_a_stream_with_a_seed_does_not_depend_on_calls_between_its_tables(model):
    whole = pd.concat(model.stream(90, chunk=30, seed=1))
    between = []
    for table in model.stream(90, chunk=30, seed=1):
        between.append(table)
        model.sample(5)
        model.sample(5, seed=1)
    assert_frame_equal(pd.concat(between), whole)


def test_a_report_adds_up_what_several_calls_counted(model):
    report = SampleReport()
    model.sample(50, seed=0, report=report)
    one = dict(report.rejected)
    assert one == model.rejected
    assert one["-1.0 <= x"] > 0
    model.sample(50, seed=0, report=report)
    assert report.rejected["-1.0 <= x"] == 2 * one["-1.0 <= x"]
    assert report.repaired == 2 * model_repaired(model)
    assert report.unmet == 0


def model_repaired(model):
    model.sample(50, seed=0)
    return model.repaired


def test_two_models_of_the_same_seed_give_the_same_rows_without_one(model):
    """As forked processes do, which is why the README asks for a seed for each."""
    assert_frame_equal(copy.deepcopy(model).sample(10), copy.deepcopy(model).sample(10))
