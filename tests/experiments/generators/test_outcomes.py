"""Regression of outcomes: dynamics and ends that are known in closed form are recovered."""

import pytest
import torch

from cfdg_diffusion.edm.parts import Part
from cfdg_experiments.generators.ends import Agreement, EndRule, EndSettings, best_threshold, find_ranges
from cfdg_experiments.generators.outcomes import OutcomeModel, OutcomeSettings, rewards_of_ends

OBS = 3
ACTION = 2
SMALL = OutcomeSettings(width=32, layers=2, batch_size=128)
SLOPE = torch.tensor([[0.9, 0.2, 0.0], [-0.1, 0.8, 0.1], [0.0, 0.1, 0.95], [0.3, 0.0, 0.0], [0.0, -0.2, 0.4]])


def pairs(count, seed):
    rng = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randn(count, OBS, generator=rng), torch.rand(count, ACTION, generator=rng) * 2 - 1], dim=1)


def follow(x, curvature=0.0):
    """Reward and next state without noise."""
    return (x[:, :1] - x[:, 3:4]).sin(), x @ SLOPE + curvature * x[:, :3].sin() * x[:, 3:4]


def system(count, seed=0, noise=0.0, curvature=0.0):
    """Rows (s, a, r, s', d) of a system whose episodes end where the first coordinate exceeds 1.5."""
    x = pairs(count, seed)
    reward, after = follow(x, curvature)
    after = after + noise * torch.randn(after.shape, generator=torch.Generator().manual_seed(seed + 1))
    rows = torch.cat([x, reward, after, (after[:, :1] > 1.5).float()], dim=1)
    return rows[x[:, 0] <= 1.5]  # no step begins in an end


def fitted(rows, steps=600, seeds=(0,)):
    model = OutcomeModel(OBS, ACTION, seeds=seeds, settings=SMALL)
    rows = rows if rows.dim() == 3 else rows[None].expand(len(seeds), -1, -1)
    model.fit(rows, torch.arange(rows.shape[1]).remainder(2).expand(len(seeds), -1), steps=steps)
    return model


def test_the_dynamics_of_a_linear_system_are_recovered_through_noise():
    noise = 0.1
    model = fitted(system(4000, noise=noise))
    x = pairs(2000, 9)
    predicted = model.complete(x[None])[0]
    reward, after = follow(x)
    error = (predicted[:, OBS + ACTION + 1 : -1] - after).square().mean()
    assert float(error) < 0.1 * noise**2, "most of the noise is averaged out"
    assert float((predicted[:, OBS + ACTION] - reward[:, 0]).abs().median()) < 0.1
    assert torch.equal(predicted[:, : OBS + ACTION], x)


def test_what_is_not_linear_is_learnt_by_the_network():
    rows = system(4000, curvature=0.5)
    model = fitted(rows, steps=600)
    judged = system(2000, seed=9, curvature=0.5)
    error = (model.complete(judged[None, :, : OBS + ACTION])[0] - judged)[:, OBS + ACTION + 1 : -1].square().mean()
    linear = (0.5 * judged[:, :OBS].sin() * judged[:, OBS : OBS + 1]).var(0).mean()
    assert float(error) < 0.1 * float(linear)


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1.0, 1234.5])
def test_an_outcome_that_never_varies_is_predicted_to_the_last_bit(constant, in_parts):
    rows = system(2000)
    rows[:, -2] = constant  # the last coordinate of s'
    rows[:, OBS + ACTION] = constant  # the reward
    rows = rows[rows[:, -1] == 0]
    model = OutcomeModel(OBS, ACTION, seeds=(0, 1), settings=SMALL)
    if in_parts:
        losses = model.fit_parts([Part(rows[:900], 0), Part(rows[900:], 1)], steps=200)
    else:
        labels = (torch.arange(len(rows)) >= 900).long()
        losses = model.fit(rows.expand(2, -1, -1), labels.expand(2, -1), steps=200)
    predicted = model.complete(pairs(500, 9).expand(2, -1, -1))
    assert bool((predicted[..., [OBS + ACTION, -2]] == torch.tensor(constant)).all())
    assert float(losses.max()) < 1, "rounding of a large constant is no target"
    other = OutcomeModel(OBS, ACTION, seeds=(0, 1), settings=SMALL)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.complete(pairs(500, 9).expand(2, -1, -1)), predicted)


def test_ends_of_a_threshold_are_found_in_unseen_rows():
    model = fitted(system(6000))
    judged = system(4000, seed=5)
    found = model.complete(judged[None, :, : OBS + ACTION])[0, :, -1] > 0.5
    truth = judged[:, -1] > 0.5
    hits = float((found & truth).sum())
    assert hits / float(truth.sum()) > 0.9
    assert hits / float(found.sum()) > 0.9
    assert float(model.ends.high[0, 0]) == pytest.approx(1.5, abs=0.02)
    assert model.ends.high[0, 1:].isinf().all()
    assert model.ends.low.isinf().all()


def test_states_that_look_like_ends_are_impossible_unless_real_rows_hold_them():
    states = torch.tensor([[[1.7, 0.0, 0.0], [1.3, 0.0, 0.0]]])
    assert fitted(system(4000), steps=20).possible(states).tolist() == [[False, True]]
    going_on = torch.cat([system(4000), torch.tensor([[1.8, 0.0, 0.0, 0.0, 0.0, 0.0, 1.7, 0.0, 0.0, 1.0]] * 40)])
    assert fitted(going_on, steps=20).possible(states).all(), "trajectories go on after an end, as in a maze"


def test_rows_without_ends_have_none():
    rows = system(1000)
    rows = rows[rows[:, -1] == 0]
    model = fitted(rows, steps=20)
    assert not model.complete(10 * pairs(500, 3)[None])[..., -1].any()
    assert model.possible(10 * pairs(500, 3)[None, :, :OBS]).all()


def test_a_classifier_learns_what_ranges_cannot():
    """Ends inside a circle around a goal, as in a maze."""
    states = torch.rand(1, 20_000, 4, generator=torch.Generator().manual_seed(0)) * 10
    ended = (states[..., :2] - 5).norm(dim=-1) < 1
    rule = EndRule(4, (0,), EndSettings(width=32, steps=600))
    rule.fit(states, ended)
    assert bool(rule.threshold.isfinite())
    judged = torch.rand(1, 20_000, 4, generator=torch.Generator().manual_seed(1)) * 10
    truth = (judged[..., :2] - 5).norm(dim=-1) < 1
    found = rule(judged)
    assert float((found & truth).sum() / truth.sum()) > 0.85
    assert float((found & truth).sum() / found.sum()) > 0.85


def test_the_rule_of_a_replica_does_not_depend_on_the_others():
    states = torch.rand(2, 4000, 2, generator=torch.Generator().manual_seed(0)) * 10
    ended = torch.stack([states[0, :, 0] > 9, (states[1] - 5).norm(dim=-1) < 1])
    settings = EndSettings(width=16, steps=100)
    both = EndRule(2, (3, 5), settings)
    both.fit(states, ended)
    for replica, seed in enumerate((3, 5)):
        alone = EndRule(2, (seed,), settings)
        alone.fit(states[replica : replica + 1], ended[replica : replica + 1])
        agreed = (alone(states[replica : replica + 1])[0] == both(states)[replica]).float().mean()
        assert float(agreed) > 0.999
    assert both.threshold[0].isinf()
    assert both.threshold[1].isfinite()


def test_ranges_are_half_way_to_the_first_end_and_only_where_ends_lie():
    states = torch.tensor([[0.0, 0.0], [1.0, 3.0], [2.0, 1.0], [3.0, 2.0], [3.5, 0.0], [0.0, -2.0], [1.0, -1.0]])
    ended = torch.tensor([False, False, False, True, True, True, True])
    low, high = find_ranges(states, ended)
    assert (low.tolist(), high.tolist()) == ([-torch.inf, -0.5], [2.5, torch.inf])


def test_a_lone_end_makes_no_range():
    states = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    states[0, 0] = 9.0
    low, high = find_ranges(states, torch.arange(100) == 0)
    assert low.isinf().all()
    assert high.isinf().all()


def test_a_threshold_parts_the_scores_where_f1_is_highest():
    scores = torch.tensor([0.9, 0.8, 0.6, 0.4, 0.2])
    threshold, score = best_threshold(scores, torch.tensor([True, True, False, True, False]))
    assert (threshold, score) == pytest.approx((0.3, 6 / 7))
    assert best_threshold(scores, torch.zeros(5, dtype=torch.bool)) == (torch.inf, 0.0)
    counts = Agreement(2)
    counts.add(torch.tensor([[True], [False]]), torch.tensor([[True], [False]]))
    counts.add(torch.tensor([[False], [False]]), torch.tensor([[True], [False]]))
    assert counts.f1().tolist() == pytest.approx([2 / 3, 1.0])


def test_rewards_follow_from_the_end_where_each_kind_of_row_has_a_single_one():
    ended = torch.tensor([False, True, False])
    assert rewards_of_ends(torch.tensor([-1.0, 0.0, -1.0]), ended).tolist() == [-1.0, 0.0]
    assert rewards_of_ends(torch.tensor([-1.0, 0.0, -0.9]), ended).isnan().all()
    assert rewards_of_ends(torch.tensor([-1.0, -1.0]), ended[::2]).isnan().all()


def test_a_sparse_reward_goes_with_the_end():
    rows = system(3000)
    rows[:, OBS + ACTION] = rows[:, -1] - 1
    made = fitted(rows, steps=100).complete(pairs(2000, 4)[None])[0]
    assert torch.equal(made[:, OBS + ACTION], made[:, -1] - 1)
    assert made[:, -1].any()


def test_a_replica_learns_what_it_would_learn_alone():
    first = system(900)[:600]
    second = system(900, seed=3)[:600]
    both = fitted(torch.stack([first, second]), steps=40, seeds=(4, 7))
    alone = fitted(second, steps=40, seeds=(7,))
    x = pairs(100, 1)[None]
    torch.testing.assert_close(both.complete(x.expand(2, -1, -1))[1], alone.complete(x)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "value"), [("width", 0), ("steps_share", 0.0), ("learning_rate", -1.0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}, expected"):
        OutcomeSettings(**{name: value})


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="rows have 9 columns, expected 10"):
        fitted(torch.zeros(20, 9))
