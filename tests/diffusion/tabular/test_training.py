"""Training that goes on: after a kill, on more rows, and never at the cost of the model that is there."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings, Range, TabularDiffusion, TabularSettings
from cfdg_diffusion.tabular.early_stopping import EarlyStopping
from cfdg_diffusion.tabular.training import move_back

TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=32, sampling_steps=4, guidance_weight=0.0)
)


def visits(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], rows)
    return pd.DataFrame({"x": rng.normal(size=rows) + 3 * (group == "b"), "n": rng.integers(0, 50, rows), "y": group})


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def killed_at(look):
    def callback(history):
        if len(history.steps) == look:
            raise Killed

    return callback


def interrupted(path, look=8, **options):
    """A fit that was killed at a look, and its checkpoint."""
    model = TabularDiffusion(seed=3, settings=TINY)
    with pytest.raises(Killed):
        model.fit(visits(), callback=killed_at(look), checkpoint=path, checkpoint_every=0, **options)
    assert path.exists()
    return model


def test_a_killed_fit_goes_on_where_it_was_bit_for_bit(tmp_path):
    path, looks = tmp_path / "fit.checkpoint", []
    whole = TabularDiffusion(seed=3, settings=TINY).fit(visits(), label="y", steps=100)
    model = interrupted(path, label="y", steps=100)
    model.fit(visits(), label="y", steps=100, checkpoint=path, callback=lambda history: looks.append(history.steps[-1]))
    assert looks[0] == 16, "7 looks at two steps each were written before the kill"
    assert model.history.losses == whole.history.losses
    assert model.history.held_out == whole.history.held_out
    assert model.history.best_step == whole.history.best_step
    pd.testing.assert_frame_equal(model.sample(50, seed=1), whole.sample(50, seed=1))
    pd.testing.assert_frame_equal(model.fit(visits(), label="y", steps=20, warm_start=True).sample(9), (
        whole.fit(visits(), label="y", steps=20, warm_start=True).sample(9)))  # fmt: skip
    assert not path.exists(), "its work is done"


def learnt_rows(model):
    return int(model._fitted.network.state_dict()["label_counts"].sum())


def test_a_fit_that_stops_early_is_done_again_with_the_rows_that_judged():
    model = TabularDiffusion(settings=TINY).fit(visits(60), steps=5000)
    assert model.history.stopped == "early"
    assert model.history.best_step < model.history.steps[-1] < 5000
    assert learnt_rows(model) == 60


@pytest.mark.parametrize(
    ("rows", "share", "judging"), [(60, 0.02, 18), (500, 0.02, 100), (8000, 0.02, 160), (60, 0, 0)]
)
def test_few_rows_give_a_larger_share_to_judge(rows, share, judging):
    settings = replace(TINY, held_out_share=share)
    assert learnt_rows(TabularDiffusion(settings=settings).fit(visits(rows), steps=2)) == rows - judging


def test_a_kill_while_all_rows_are_learnt_keeps_the_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "fit.checkpoint"
    whole = TabularDiffusion(settings=TINY).fit(visits(60), steps=5000)

    def killed(*args, **options):
        raise Killed

    monkeypatch.setattr(ConditionalDiffusion, "fit", killed)  # which learns all rows in one go
    with pytest.raises(Killed):
        TabularDiffusion(settings=TINY).fit(visits(60), steps=5000, checkpoint=path, checkpoint_every=0)
    monkeypatch.undo()
    assert path.exists()
    model = TabularDiffusion(settings=TINY).fit(visits(60), steps=5000, checkpoint=path)
    assert model.history.steps == whole.history.steps
    pd.testing.assert_frame_equal(model.sample(9, seed=1), whole.sample(9, seed=1))
    assert not path.exists()


def test_a_checkpoint_counts_the_time_before_the_kill(tmp_path):
    path = tmp_path / "fit.checkpoint"
    interrupted(path, look=3, steps=100)
    model = TabularDiffusion(seed=3, settings=TINY).fit(visits(), steps=100, checkpoint=path, time_budget=1e-4)
    assert (model.history.stopped, model.history.steps) == ("time", [2, 4, 6])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": visits(seed=1)}, "another table"),
        ({"steps": 50}, "steps = 100, not 50"),
        ({"label": "y"}, "another table"),
    ],
)
def test_the_checkpoint_of_another_fit_is_refused_and_kept(tmp_path, change, message):
    path = tmp_path / "fit.checkpoint"
    interrupted(path, look=3, steps=100)
    asked = {"table": visits(), "steps": 100, **change}
    with pytest.raises(ValueError, match=message):
        TabularDiffusion(seed=3, settings=TINY).fit(**asked, checkpoint=path)
    assert path.exists()


def test_a_model_is_no_checkpoint_and_a_checkpoint_no_model(tmp_path):
    path = tmp_path / "fit.checkpoint"
    interrupted(path, look=3, steps=100)
    with pytest.raises(ValueError, match="holds no tabular model"):
        TabularDiffusion.load(path)
    model = TabularDiffusion(settings=TINY).fit(visits(), steps=2)
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds no checkpoint"):
        model.fit(visits(), steps=2, checkpoint=tmp_path / "model.safetensors")


def test_a_warm_start_goes_on_from_the_weights_and_keeps_codes_and_labels(tmp_path):
    model = TabularDiffusion(seed=3, settings=TINY).fit(visits(), steps=400)
    model.save(tmp_path / "model.safetensors")
    cold = TabularDiffusion(seed=3, settings=TINY).fit(visits(), steps=2)
    loaded = TabularDiffusion.load(tmp_path / "model.safetensors")
    for each in (model, loaded):
        schema = each.schema
        each.fit(visits(seed=1), steps=2, warm_start=True)
        assert each.schema.codec is schema.codec
        assert each.history.held_out[-1] < 0.9 * cold.history.held_out[-1]
    pd.testing.assert_frame_equal(model.sample(20, seed=0), loaded.sample(20, seed=0))


def test_after_a_warm_start_labels_have_the_latest_frequencies_and_none_is_lost():
    table = visits()
    model = TabularDiffusion(settings=TINY).fit(table, label="y", steps=2)
    model.fit(table[table["y"] == "a"], steps=2, warm_start=True)
    assert (model.sample(40)["y"] == "a").all()
    assert (model.sample(5, label="b")["y"] == "b").all()
    assert set(model.sample(10, balance=True)["y"]) == {"a", "b"}


def test_a_warm_start_of_nothing_is_a_fit():
    first, second = (TabularDiffusion(settings=TINY).fit(visits(), steps=4, warm_start=warm) for warm in (True, False))
    pd.testing.assert_frame_equal(first.sample(9), second.sample(9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(y="c"), "column 'y' holds 'c', expected one of its 2 levels"),
        (lambda t: t.assign(kind="new"), "column 'kind' holds 'new', expected one of its 1 levels"),
        (lambda t: t.assign(z=0), "column 'z' is new"),
        (lambda t: t.drop(columns="n"), "column 'n' is missing"),
        (lambda t: t.assign(n=np.nan), "column 'n' has missing values"),
    ],
)
def test_a_fit_that_fails_leaves_the_model_as_it_was(change, message):
    table = visits().assign(kind="old")
    model = TabularDiffusion(settings=TINY).fit(table, label="y", steps=4)
    before, history = model.sample(9, seed=0), model.history
    with pytest.raises(ValueError, match=message):
        model.fit(change(table), steps=4, warm_start=True)
    with pytest.raises(Killed):
        model.fit(table, steps=4, warm_start=True, callback=killed_at(2))
    with pytest.raises(Killed):
        model.fit(table[["x"]], steps=4, callback=killed_at(2))
    pd.testing.assert_frame_equal(model.sample(9, seed=0), before)
    assert model.history is history


def test_a_warm_start_with_another_label_is_refused():
    model = TabularDiffusion(settings=TINY).fit(visits(), label="y", steps=2)
    with pytest.raises(ValueError, match=r"label is 'x', expected \['y'\]"):
        model.fit(visits(), label="x", steps=2, warm_start=True)


def test_held_out_rows_are_moved_to_the_end_and_none_is_lost():
    rng = np.random.default_rng(0)
    rows, labels, chosen = np.arange(30).reshape(15, 2), np.arange(15), rng.random(15) < 0.4
    expected = labels[chosen]
    count = move_back(chosen, rows, labels)
    assert count == chosen.sum()
    assert sorted(labels[15 - count :]) == sorted(expected)
    assert sorted(labels) == list(range(15))
    assert (rows[:, 0] == 2 * labels).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_a_copy_is_a_model_of_its_own(copied):
    model = TabularDiffusion(seed=5, settings=TINY, constraints=[Range("n", 0)]).fit(visits(), label="y", steps=6)
    twin = copied(model)
    pd.testing.assert_frame_equal(twin.sample(9), model.sample(9))
    before = model.sample(9, seed=0)
    twin.fit(visits(seed=1), steps=6, warm_start=True)
    pd.testing.assert_frame_equal(model.sample(9, seed=0), before)


def test_parameters_are_the_constructors_arguments():
    model = TabularDiffusion(seed=5, settings=TINY, constraints=[Range("n", 0)], device="cpu")
    twin = TabularDiffusion(**model.get_params())
    assert twin.get_params() == model.get_params()
    assert model.set_params(seed=6) is model
    assert (model.seed, model.settings) == (6, TINY)
    with pytest.raises(ValueError, match="there is no parameter 'steps', expected one of seed, settings"):
        model.set_params(steps=3)
    assert repr(model) == "TabularDiffusion(seed=6, device='cpu'), not fitted"
    assert repr(model.fit(visits(), steps=1)).endswith("fitted to 400 rows of 3 columns")


def test_scikit_learn_clones_it():
    clone = pytest.importorskip("sklearn.base").clone
    model = TabularDiffusion(seed=5, settings=TINY, constraints=[Range("n", 0)]).fit(visits(), steps=1)
    assert clone(model).get_params() == model.get_params()
    assert "not fitted" in repr(clone(model))


def test_a_saved_model_goes_on_with_its_random_stream(tmp_path):
    model = TabularDiffusion(settings=TINY).fit(visits(), label="y", steps=2)
    model.sample(7)
    model.save(tmp_path / "model.safetensors")
    pd.testing.assert_frame_equal(TabularDiffusion.load(tmp_path / "model.safetensors").sample(9), model.sample(9))


class Weights:
    """Stands for a model whose weights are known."""

    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"value": self.value}


def looked_at(losses, patience=3):
    """Early stopping after looks at these held-out losses, at steps 10, 20, ..."""
    stopping = EarlyStopping(patience)
    for step, loss in enumerate(losses, start=1):
        stopping.look(10 * step, loss, Weights(step))
    return stopping


@pytest.mark.parametrize(("last", "ends"), [(1.005, False), (1.02, True)])
def test_training_goes_on_while_the_held_out_loss_is_as_good_as_the_best(last, ends):
    """Weights settle at the end, when the learning rate is 0: a loss that is merely flat is no reason to stop."""
    stopping = looked_at([1.0, 1.1, 1.1, last])
    assert stopping.is_due(last) == ends
    assert stopping.is_settled(last) != ends


def test_patience_counts_the_looks_since_the_best():
    assert not looked_at([1.0, 2.0, 2.0]).is_due(2.0)
    assert looked_at([1.0, 2.0, 2.0, 2.0]).is_due(2.0)
    assert not looked_at([1.0, 2.0, 0.9, 2.0, 2.0]).is_due(2.0)


def test_the_weights_of_the_lowest_loss_are_kept_and_restored():
    stopping = looked_at([3.0, 1.0, 2.0])
    assert (stopping.best, stopping.best_step, stopping.weights) == (1.0, 20, {"value": 2})
    again = EarlyStopping(patience=3)
    again.restore(stopping.state())
    again.look(40, 1.5, Weights(4))
    assert (again.best_step, again.looks_since_best) == (20, 2)
