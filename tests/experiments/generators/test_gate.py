"""The quality gate: held-out rows, what they accept and reject, and failures that do not end a run."""

from functools import partial

import pytest
import torch

from cfdg_diffusion import DiffusionSettings
from cfdg_diffusion.edm.losses import DivergenceError
from cfdg_experiments.generators.context import row_model
from cfdg_experiments.generators.distances import Scale
from cfdg_experiments.generators.edis import Edis
from cfdg_experiments.generators.ends import EndSettings
from cfdg_experiments.generators.fitted import Fitted, Unlabelled
from cfdg_experiments.generators.gate import Gate, GateSettings, HoldingOut, is_held_out, seen_rows, seen_views
from cfdg_experiments.generators.least_squares import least_squares
from cfdg_experiments.generators.outcomes import OutcomeSettings
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.generators.split import Split
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.finetune import fit_generator, storable
from cfdg_rl.mixing import Pools
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, row_width, to_rows

DIMS = (3, 2)
SEEDS = (0, 1)


def real_rows(count, seed, noise=0.0, shift=0.0):
    """Rows of a dynamics that is linear but for a sine, with Gaussian noise on (r, s') and a shift of (s, a)."""
    rng = torch.Generator().manual_seed(seed)
    obs = torch.randn(len(SEEDS), count, 3, generator=rng) + shift
    action = torch.rand(len(SEEDS), count, 2, generator=rng) * 2 - 1
    following = obs + 0.3 * action.sum(-1, keepdim=True) + 0.5 * (2 * obs).sin()
    following += noise * torch.randn(following.shape, generator=rng)
    reward = obs.sum(-1) + noise * torch.randn(obs.shape[:2], generator=rng)
    return to_rows(Transitions(obs, action, reward, following, torch.zeros(len(SEEDS), count)))


def pools_with(generated, online=2000):
    """Buffers of real rows, and generated ones of both labels."""
    rings = [Ring(len(SEEDS), 5000, row_width(*DIMS)) for _ in range(3)]
    for ring, rows in zip(rings, (real_rows(online, 1), generated, generated), strict=True):
        ring.add(rows)
    first, off, on = rings
    return Pools(FixedRows(real_rows(4000, 2)[0]), first, off, on, obs_dim=3, action_dim=2)


def exact(rows, labels, known):
    """Predict without an error, as a generator that knows the dynamics."""
    return rows.clone()


def noisy(noise):
    def complete(rows, labels, known):
        rng = torch.Generator().manual_seed(9)
        made = rows.clone()
        made[..., known:] += noise * torch.randn(made[..., known:].shape, generator=rng)
        return made

    return complete


def judged(generated, complete=exact, **settings):
    gate = Gate(*DIMS, Streams(SEEDS, "gate"), GateSettings(**settings))
    return gate(pools_with(generated), torch.zeros(2, 2, dtype=torch.bool), complete)


def test_a_fresh_draw_of_real_rows_passes_with_a_distance_near_one():
    passes, found = judged(real_rows(2000, 3))
    assert passes.all()
    for label in ("offline", "online"):
        assert (found[f"refresh/gate_distance_{label}"] - 1).abs().max() < 0.5
        assert (found[f"refresh/gate_error_{label}"] == 0).all()


def test_wrong_states_and_wrong_predictions_are_told_apart():
    passes, found = judged(real_rows(2000, 3), noisy(3.0))
    assert not passes.any()
    assert (found["refresh/gate_distance_online"] < 1.5).all()
    assert (found["refresh/gate_error_online"] > 1).all()
    passes, found = judged(real_rows(2000, 3, shift=0.5))
    assert not passes.any()
    assert (found["refresh/gate_distance_offline"] > 2).all()


def test_the_error_is_in_units_of_what_least_squares_leave():
    _, found = judged(real_rows(2000, 3), noisy(0.3))
    rows = Scale.of(real_rows(8000, 4))(real_rows(8000, 4))[0]
    slope, mean, _ = least_squares(rows[:, :5], rows[:, 5:9], torch.full((8000,), 1 / 8000))
    left = (rows[:, 5:9] - mean - rows[:, :5] @ slope).square().mean()
    added = (0.3 / real_rows(8000, 4)[0, :, 5:9].std(0)).square().mean()
    assert (found["refresh/gate_error_online"] * left / added - 1).abs().max() < 0.25


def test_a_generator_that_predicts_nothing_is_judged_by_its_states_alone():
    passes, found = judged(real_rows(2000, 3), lambda rows, labels, known: None)
    assert passes.all()
    assert found["refresh/gate_error_online"].isnan().all()


def test_a_label_is_judged_by_itself_and_one_that_is_not_generated_passes():
    pools = pools_with(real_rows(2000, 3))
    pools.offline_synthetic.clear()
    pools.online_synthetic.clear()
    pools.online_synthetic.add(real_rows(2000, 3, shift=2.0))
    gate = Gate(*DIMS, Streams(SEEDS, "gate"))
    passes, found = gate(pools, torch.zeros(2, 2, dtype=torch.bool), exact)
    assert passes.tolist() == [[True, False], [True, False]]
    assert found["refresh/gate_error_offline"].isnan().all()


def test_a_label_that_the_generator_could_not_make_fails():
    gate = Gate(*DIMS, Streams(SEEDS, "gate"))
    failed = torch.tensor([[True, False], [False, True]])
    passes, _ = gate(pools_with(real_rows(2000, 3)), failed, exact)
    assert torch.equal(passes, ~failed)


def test_models_complete_rows_from_their_states_and_actions(data):
    schedule = Schedule(40, 4, warm_start=True)
    diffusion = DiffusionSettings(width=16, blocks=1, sampling_steps=4)
    outcomes = OutcomeSettings(width=16, ends=EndSettings(steps=5))
    split = Fitted(Split(*data.dims, seeds=data.seeds, diffusion=diffusion, outcomes=outcomes), schedule)
    joint = Fitted(row_model(diffusion, data.dims, data.seeds, "cpu"), schedule)
    for generator in (split, joint, Unlabelled(joint, only=0)):
        generator.fit(data.rows, data.labels)
        made = generator.complete(data.rows[:, :20], data.labels[:, :20], sum(data.dims))
        assert made.shape == (2, 20, data.rows.shape[2])
        assert torch.allclose(made[..., :3], data.rows[:, :20, :3], atol=1e-5)
        assert made.isfinite().all()
        assert not torch.equal(made[..., 3:], data.rows[:, :20, 3:])


def as_they_are(rows):
    return rows


class Remembering:
    """A generator that keeps what it was fitted on, and fails when it is told to."""

    def __init__(self):
        self.seen = None
        self.diverges = False
        self.rows = None
        self.restored = 0

    def fit(self, rows, labels):
        self.seen = (rows, labels)
        if self.diverges:
            raise DivergenceError("the loss is no longer finite")

    def sample(self, labels):
        return self.rows[:, : labels.shape[1]]

    def network_calls(self, rows):
        return 0.0

    def state(self):
        return {}

    def restore(self, state):
        self.restored += 1


class RememberingParts(Remembering):
    """The same for a generator that takes parts."""

    def fit_parts(self, parts):
        self.parts = parts


@pytest.fixture
def held():
    inner = Remembering()
    return HoldingOut(inner, 10, 0.1, Streams(SEEDS, "held out"), as_they_are), inner


def members(rows):
    return sorted(map(tuple, rows.tolist()))


def test_the_generator_never_sees_the_rows_that_judge_it(data, held):
    generator, inner = held
    generator.fit(data.rows, data.labels)
    rows, labels = inner.seen
    assert labels[0].tolist() == [0] * 54 + [1] * 27
    out = torch.cat([is_held_out(60, 10, rows.device), is_held_out(30, 10, rows.device)])
    assert out.nonzero()[:, 0].tolist() == [9, 19, 29, 39, 49, 59, 69, 79, 89]
    assert torch.equal(rows, data.rows[:, ~out])


def test_a_label_of_several_parts_holds_out_what_it_would_in_one_and_nothing_is_copied():
    whole = torch.arange(2 * 47 * 3.0).reshape(2, 47, 3)
    parts = [(part, 0) for part in whole.split([13, 0, 24, 4, 6], dim=1)]
    views = seen_views([(whole[0, :25], 1), *parts], 10)
    of_label = torch.cat([view for view, label in views if label == 0], dim=1)
    for own, expected in zip(of_label, whole[:, ~is_held_out(47, 10, whole.device)], strict=True):
        assert members(own) == members(expected)
    shared = torch.cat([view for view, label in views if label == 1])
    assert members(shared) == members(whole[0, :25][~is_held_out(25, 10, whole.device)])
    assert {view.untyped_storage().data_ptr() for view, _ in views} == {whole.untyped_storage().data_ptr()}
    copies = seen_rows([(whole[0, :25], 1), *parts], 10)
    assert torch.equal(
        torch.cat([rows for rows, label in copies if label == 0], dim=1), whole[:, ~is_held_out(47, 10, whole.device)]
    )
    assert torch.equal(copies[0][0], whole[0, :25][~is_held_out(25, 10, whole.device)])


def test_a_generator_that_takes_parts_is_fitted_on_views_of_them(data):
    inner = RememberingParts()
    generator = HoldingOut(inner, 10, 0.1, Streams(SEEDS, "held out"), as_they_are)
    fit_generator(generator, [(data.rows[:, :60], 0), (data.rows[:, 60:], 1)])
    assert {rows.untyped_storage().data_ptr() for rows, _ in inner.parts} == {data.rows.untyped_storage().data_ptr()}
    assert [sum(rows.shape[1] for rows, label in inner.parts if label == own) for own in (0, 1)] == [54, 27]


def test_a_generator_that_needs_their_order_gets_them_in_order(data):
    inner = RememberingParts()
    inner.needs_order = True
    fit_generator(HoldingOut(inner, 10, 0.1, Streams(SEEDS, "held out"), as_they_are), [(data.rows[:, :60], 0)])
    (rows, label) = inner.parts[0]
    assert label == 0
    assert torch.equal(rows, data.rows[:, :60][:, ~is_held_out(60, 10, rows.device)])
    assert Edis.needs_order


def test_a_fit_that_diverges_leaves_real_rows_of_the_label_and_begins_anew(data, held):
    generator, inner = held
    inner.diverges = True
    assert isinstance(generator.fit(data.rows, data.labels), DivergenceError)
    drawn = generator.sample(data.asked)
    assert generator.failed.all()
    assert torch.equal(drawn[..., 3], data.asked.float()), "the reward of these rows is their label"
    inner.diverges = False
    inner.rows = data.rows
    generator.fit(data.rows, data.labels)
    assert inner.restored == 1
    assert torch.equal(generator.sample(data.asked), data.rows[:, : data.asked.shape[1]])
    assert not generator.failed.any()


def test_a_label_without_a_usable_row_is_filled_with_real_ones(data, held):
    generator, inner = held
    generator.fit(data.rows, data.labels)
    inner.rows = data.rows[:, :25].clone()
    inner.rows[0, 5:] = torch.nan
    inner.rows[1, :5] = 1e9
    drawn = generator.sample(data.asked)
    assert generator.failed.tolist() == [[False, True], [True, False]]
    assert drawn.isfinite().all()
    assert (drawn.abs() < 1e3).all()
    assert torch.equal(drawn[0, :5], inner.rows[0, :5])


def test_rows_are_usable_as_the_buffers_will_hold_them():
    """A joint model's column of ends is a number near 0, and its actions lie a little beyond the box."""
    rows = real_rows(90, 5)
    inner = Remembering()
    inner.rows = rows[:, :25].clone()
    inner.rows[..., -1] = 0.01  # no real row ends an episode
    inner.rows[..., 3] = 1.5  # an action
    stored = partial(storable, obs_dim=3, action_dim=2, sparse_reward=False)
    labels = torch.arange(25).remainder(2).expand(2, -1)
    for own, failed in ((stored, False), (as_they_are, True)):
        generator = HoldingOut(inner, 10, 0.1, Streams(SEEDS, "held out"), own)
        generator.fit_parts([(rows, 0), (rows[:, :30], 1)])
        generator.sample(labels)
        assert bool((generator.failed == failed).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"held_out_every": 1}, "held_out_every is 1, expected at least 2"),
        ({"distance": 0.0}, "distance is 0.0, expected more than 0"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        GateSettings(**settings)
