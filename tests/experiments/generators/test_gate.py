"""The quality gate: held-out rows, what they accept and reject, and failures that do not end a run."""

import pytest
import torch

from cfdg_diffusion.edm.losses import DivergenceError
from cfdg_experiments.distances import Scale
from cfdg_experiments.generators.gate import Gate, GateSettings, HoldingOut, is_held_out
from cfdg_experiments.generators.outcomes import least_squares
from cfdg_rl.buffer import FixedRows, Ring
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


def judged(generated, **settings):
    gate = Gate(*DIMS, Streams(SEEDS, "gate"), GateSettings(**settings))
    return gate(pools_with(generated), torch.zeros(2, 2, dtype=torch.bool))


def test_a_fresh_draw_of_real_rows_passes_with_ratios_near_one():
    passes, found = judged(real_rows(2000, 3))
    assert passes.all()
    for name, ratio in found.items():
        assert ratio.shape == (2,)
        assert (ratio - 1).abs().max() < 0.5, name


def test_wrong_dynamics_and_wrong_states_are_told_apart():
    passes, found = judged(real_rows(2000, 3, noise=1.0))
    assert not passes.any()
    assert (found["refresh/gate_error_online"] > 1.5).all()
    assert (found["refresh/gate_distance_online"] < 1.5).all()
    passes, found = judged(real_rows(2000, 3, shift=0.5))
    assert not passes.any()
    assert (found["refresh/gate_distance_offline"] > 2).all()


def test_noise_adds_its_variance_in_units_of_what_least_squares_leave():
    gate = Gate(*DIMS, Streams(SEEDS, "gate"), GateSettings(rows=8000))
    plain = gate.ratios(real_rows(8000, 3), real_rows(80_000, 1))[1]
    noisy = gate.ratios(real_rows(8000, 3, noise=0.3), real_rows(80_000, 1))[1]
    rows = Scale.of(real_rows(8000, 4))(real_rows(8000, 4))[0]
    slope, mean, _ = least_squares(rows[:, :5], rows[:, 5:9], torch.full((8000,), 1 / 8000))
    left = (rows[:, 5:9] - mean - rows[:, :5] @ slope).square().mean()
    added = (0.3 / real_rows(8000, 4)[0, :, 5:9].std(0)).square().mean()
    assert ((noisy - plain) * left / added - 1).abs().max() < 0.2


def test_a_label_is_judged_by_itself_and_one_that_is_not_generated_passes():
    pools = pools_with(real_rows(2000, 3))
    pools.offline_synthetic.clear()
    pools.online_synthetic.clear()
    pools.online_synthetic.add(real_rows(2000, 3, noise=2.0))
    gate = Gate(*DIMS, Streams(SEEDS, "gate"))
    passes, found = gate(pools, torch.zeros(2, 2, dtype=torch.bool))
    assert passes.tolist() == [[True, False], [True, False]]
    assert found["refresh/gate_error_offline"].isnan().all()


def test_rows_of_not_a_number_fail():
    rows = real_rows(100, 3)
    passes, _ = judged(torch.full_like(rows, torch.nan))
    assert passes.all(), "nothing was judged"
    gate = Gate(*DIMS, Streams(SEEDS, "gate"))
    passes, _ = gate(pools_with(rows), torch.ones(2, 2, dtype=torch.bool))
    assert not passes.any(), "but the generator says that it failed"


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


@pytest.fixture
def held():
    inner = Remembering()
    return HoldingOut(inner, 10, 0.1, Streams(SEEDS, "held out")), inner


def test_the_generator_never_sees_the_rows_that_judge_it(data, held):
    generator, inner = held
    generator.fit(data.rows, data.labels)
    rows, labels = inner.seen
    assert labels[0].tolist() == [0] * 54 + [1] * 27
    out = torch.cat([is_held_out(60, 10, rows.device), is_held_out(30, 10, rows.device)])
    assert torch.equal(rows, data.rows[:, ~out])
    assert out.nonzero()[:, 0].tolist() == [9, 19, 29, 39, 49, 59, 69, 79, 89]


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
