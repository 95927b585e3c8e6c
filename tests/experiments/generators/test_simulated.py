"""References without model error: their outcomes are the simulator's, in the learner's units."""

import numpy as np
import pytest
import torch

from cfdg_experiments.generators import Outcomes, Repeat, Simulated, SimulatedOutcomes, SimulatedSettings
from cfdg_rl.datasets import load_dataset
from cfdg_rl.envs.simulate import make_simulator
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import from_rows, to_rows

SEEDS = (0, 1)
REWARD = RewardMap(scale=2.0, shift=-1.0)
DIMS = (11, 3)
ASKED = torch.tensor([[0] * 50 + [1] * 250] * 2)


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    """Hopper's rows ``(2, 1000, 27)`` under two labels, rewards in the learner's units."""
    data = load_dataset("recorded:hopper-medium-replay", rows=1001, cache=tmp_path_factory.mktemp("data")).transitions
    rows = to_rows(data.map(lambda column: column[:1000]))
    rows[:, 14] = REWARD(rows[:, 14])
    return rows.expand(2, -1, -1).contiguous(), torch.arange(1000).ge(500).long().expand(2, -1)


@pytest.fixture(scope="module")
def outcomes():
    return Outcomes(make_simulator("Hopper-v5"), REWARD)


def simulated(outcomes, **noise):
    return Simulated(*DIMS, outcomes, Streams(SEEDS, "test"), SimulatedSettings(**noise))


def test_simulated_rows_are_new_and_have_no_dynamics_error(hopper, outcomes):
    generator = simulated(outcomes)
    generator.fit(*hopper)
    drawn = generator.sample(ASKED)
    data = from_rows(drawn, *DIMS)
    truth = outcomes(data.obs, data.action)
    whole = ~outcomes.hides(data.obs)
    error = ((data.next_obs - truth.next_obs) / hopper[0][0, :, 15:26].std(0)).square().mean(-1)[whole]
    assert error.median() < 1e-8
    assert error.max() < 1e-2
    assert (data.reward - truth.reward)[whole].abs().max() < 0.05
    assert torch.equal(data.terminal[whole], truth.terminal[whole])
    assert not outcomes.is_impossible(data.obs).any()
    real = {tuple(row) for row in hopper[0][0, :, :11].tolist()}
    fresh = [tuple(row) not in real for row in data.obs[0].tolist()]
    assert np.mean(fresh) > 0.9


def test_without_noise_recorded_rows_come_back(hopper, outcomes):
    generator = simulated(outcomes, state_noise=0.0, action_noise=0.0)
    generator.fit(*hopper)
    copier = Repeat(Streams(SEEDS, "test"))
    copier.fit(*hopper)
    recorded = copier.sample(ASKED)
    spread = hopper[0][0].std(0) + 1e-6
    assert ((generator.sample(ASKED) - recorded) / spread).square().mean(-1).median() < 1e-7


def test_a_generators_own_states_and_actions_get_true_outcomes_and_impossible_ones_none(hopper, outcomes):
    class Fallen(Repeat):
        def sample(self, labels):
            rows = super().sample(labels)
            rows[:, :5, 0] = 0.1  # the torso on the floor
            rows[:, :, 14:] = 7.0  # no outcome of the inner generator may survive
            return rows

    generator = SimulatedOutcomes(Fallen(Streams(SEEDS, "test")), *DIMS, outcomes)
    generator.fit(*hopper)
    drawn = generator.sample(ASKED)
    assert drawn[:, :5].isnan().all()
    data = from_rows(drawn[:, 5:], *DIMS)
    truth = outcomes(data.obs, data.action)
    assert torch.equal(data.next_obs, truth.next_obs)
    assert torch.equal(data.reward, truth.reward)


def test_a_restored_generator_goes_on_bit_for_bit(hopper, outcomes):
    for wrap in (lambda inner: inner, lambda inner: SimulatedOutcomes(inner, *DIMS, outcomes)):
        generator = wrap(simulated(outcomes))
        generator.fit(*hopper)
        generator.sample(ASKED)
        other = wrap(simulated(outcomes))
        other.restore(generator.state())
        other.fit(*hopper)
        assert torch.equal(other.sample(ASKED), generator.sample(ASKED))


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match=r"action_noise is -0.1, expected at least 0"):
        SimulatedSettings(action_noise=-0.1)
