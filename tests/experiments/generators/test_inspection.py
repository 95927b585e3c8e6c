"""Inspection of a refresh: a fresh draw is innocent, copies, shifts, wrong outcomes and impossible states are found."""

import math

import pytest
import torch

from cfdg_experiments.generators import Outcomes
from cfdg_experiments.generators.distances import Scale, nearest_distance, sliced_wasserstein
from cfdg_experiments.generators.inspection import MEASURES, Inspection, InspectionSettings, truth_of
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.envs.simulate import Outcome
from cfdg_rl.mixing import Pools
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, from_rows, to_rows

SEEDS = (0, 1)
SETTINGS = InspectionSettings(rows=1000, neighbours=4000, queries=400)


class Line:
    """s' = s + a; pays s'; ends beyond 2, where no episode goes on; hides the state below -2."""

    def step_from(self, obs, action):
        after = obs + action
        return Outcome(after[:, 0], after, after[:, 0] > 2)

    def is_impossible(self, obs):
        return obs[:, 0] > 2

    def hides(self, obs):
        return obs[:, 0] < -2


OUTCOMES = Outcomes(Line(), RewardMap(scale=10.0, shift=-1.0))


def line(count, seed):
    rng = torch.Generator().manual_seed(seed)
    obs = torch.randn(len(SEEDS), count, 1, generator=rng).clamp(-1.9, 1.9)
    action = torch.rand(len(SEEDS), count, 1, generator=rng) * 2 - 1
    return to_rows(OUTCOMES(obs, action))


def pools(generated):
    rings = [Ring(len(SEEDS), 3000, 5) for _ in range(3)]
    rings[0].add(line(3000, 1))
    rings[1].add(generated)
    rings[2].add(generated)
    return Pools(FixedRows(line(4000, 0)[0]), *rings, 1, 1)


def inspect(generated, outcomes=OUTCOMES):
    return Inspection(Streams(SEEDS, "test"), outcomes, SETTINGS)(pools(generated))


def test_a_fresh_draw_is_innocent():
    found = inspect(line(2000, 2))
    for label in ("offline", "online"):
        assert (found[f"refresh/swd_{label}"] < 2 * found[f"refresh/swd_real_{label}"]).all()
        torch.testing.assert_close(found[f"refresh/novelty_{label}"], torch.ones(2), atol=0.25, rtol=0)
        assert (found[f"refresh/copies_{label}"] < 0.12).all()
    for name in ("dynamics_mean", "dynamics_median", "reward_error", "impossible"):
        assert (found[f"refresh/{name}"] < 1e-9).all()
    for name in ("end_recall", "end_precision"):
        assert (found[f"refresh/{name}"] == 1).all()
    assert all(value.shape == (2,) for value in found.values())


def test_copies_are_found_and_a_shift_too():
    copies = inspect(line(4000, 0)[:, :2000], None)
    assert (copies["refresh/copies_offline"][0], copies["refresh/novelty_offline"][0]) == (1, 0)
    shifted = inspect(line(2000, 2) + 0.5, None)
    assert (shifted["refresh/swd_online"] > 5 * shifted["refresh/swd_real_online"]).all()
    assert shifted["refresh/dynamics_mean"].isnan().all(), "there is no simulator"


def test_the_errors_have_their_units():
    data = from_rows(line(500, 3), 1, 1)
    wrong = Transitions(data.obs, data.action, data.reward + 5.0, data.next_obs + 0.3, data.terminal)
    found = truth_of(OUTCOMES, wrong, torch.full((2, 1, 1), 2.0))
    torch.testing.assert_close(found["dynamics_mean"], torch.full((2,), 0.15**2))
    torch.testing.assert_close(found["reward_error"], torch.full((2,), 0.5))


def test_ends_are_judged_over_healthy_and_whole_states_alone():
    obs = torch.tensor([1.5, 1.5, 1.5, 0.0, 0.0, 3.0, -3.0])[None, :, None]
    action = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])[None, :, None]
    terminal = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]])
    found = truth_of(OUTCOMES, Transitions(obs, action, terminal, obs, terminal), torch.ones(1, 1, 1))
    assert found["end_recall"].item() == pytest.approx(1 / 3)
    assert found["end_precision"].item() == pytest.approx(1 / 2)
    assert found["impossible"].item() == pytest.approx(1 / 7)
    calm = Transitions(obs * 0, action * 0, terminal * 0, obs * 0, terminal * 0)
    assert math.isnan(truth_of(OUTCOMES, calm, torch.ones(1, 1, 1))["end_recall"].item())


def test_an_empty_ring_has_no_measures_and_inspection_resumes_bit_for_bit():
    some = pools(line(100, 2))
    some.offline_synthetic.clear()
    first = Inspection(Streams(SEEDS, "test"), OUTCOMES, SETTINGS)
    measures = first(some)
    assert tuple(measures) == MEASURES
    assert all(value.isnan().all() == ("offline" in name) for name, value in measures.items())
    second = Inspection(Streams(SEEDS, "test"), OUTCOMES, SETTINGS)
    second.restore(first.state())
    again = second(some)
    assert all(value.allclose(again[name], rtol=0, atol=0, equal_nan=True) for name, value in first(some).items())


def test_the_sliced_distance_of_a_shift_is_that_of_its_projections():
    rows = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    directions = torch.eye(3).expand(2, -1, -1) * 7
    moved = rows + torch.tensor([3.0, 0.0, -6.0])
    torch.testing.assert_close(sliced_wasserstein(moved, rows, directions), torch.full((2,), 3.0))


def test_the_nearest_distance_leaves_out_the_row_itself():
    rows = torch.tensor([[[0.0], [1.0], [3.0]]])
    assert nearest_distance(rows, rows).tolist() == [[0, 0, 0]]
    assert nearest_distance(rows, rows, torch.arange(3)[None]).tolist() == [[1, 1, 2]]
    assert nearest_distance(torch.tensor([[[2.4]]]), rows)[0, 0].item() == pytest.approx(0.6)


def test_a_constant_column_is_not_blown_up():
    rows = torch.zeros(1, 5, 1)
    assert torch.equal(Scale.of(rows)(rows + 1), torch.ones(1, 5, 1))


def test_a_setting_below_two_is_refused():
    with pytest.raises(ValueError, match="queries is 1, expected at least 2"):
        InspectionSettings(queries=1)
