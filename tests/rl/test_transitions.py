"""The row codec and its inverse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdg_rl.transitions import Transitions, concatenate, from_rows, row_width, to_rows


def make(lead: tuple[int, ...], obs_dim: int, action_dim: int, seed: int = 0) -> Transitions:
    rng = torch.Generator().manual_seed(seed)
    return Transitions(
        obs=torch.randn(*lead, obs_dim, generator=rng),
        action=torch.rand(*lead, action_dim, generator=rng) * 2 - 1,
        reward=torch.randn(*lead, generator=rng),
        next_obs=torch.randn(*lead, obs_dim, generator=rng),
        terminal=(torch.rand(*lead, generator=rng) < 0.3).float(),
    )


@given(st.integers(1, 7), st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 9))
def test_rows_round_trip(obs_dim, action_dim, lead, seed):
    data = make(tuple(lead), obs_dim, action_dim, seed)
    rows = to_rows(data)
    assert rows.shape == (*lead, row_width(obs_dim, action_dim))
    back = from_rows(rows, obs_dim, action_dim)
    for name in ("obs", "action", "reward", "next_obs", "terminal"):
        assert torch.equal(getattr(back, name), getattr(data, name)), name


def test_terminal_is_thresholded_at_one_half_and_stays_unnormalised():
    rows = to_rows(make((4,), 2, 1))
    rows[:, -1] = torch.tensor([-0.2, 0.49, 0.51, 1.7])
    assert from_rows(rows, 2, 1).terminal.tolist() == [0.0, 0.0, 1.0, 1.0]


def test_rewards_and_terminals_have_no_trailing_axis():
    back = from_rows(to_rows(make((3, 5), 4, 2)), 4, 2)
    assert back.reward.shape == back.terminal.shape == (3, 5)


def test_wrong_width_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"rows have 9 columns, expected 10"):
        from_rows(torch.zeros(3, 9), 3, 2)


def test_concatenate_joins_the_batch_axis_of_every_field():
    parts = [make((2, 3), 4, 2, 1), make((2, 5), 4, 2, 2)]
    whole = concatenate(parts)
    assert len(whole) == 8
    assert torch.equal(to_rows(whole), torch.cat([to_rows(part) for part in parts], dim=1))
