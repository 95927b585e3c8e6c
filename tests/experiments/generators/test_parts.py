"""Parts of rows that a split model reads where they are stored: what it learns of joined rows, without joining them."""

import pytest
import torch

from cfdg_diffusion import DiffusionSettings
from cfdg_experiments.generators import fitted, split
from cfdg_experiments.generators.end_states import EndStates
from cfdg_experiments.generators.ends import EndRule, EndSettings
from cfdg_experiments.generators.fitted import Fitted, Schedule
from cfdg_experiments.generators.outcomes import OutcomeSettings
from cfdg_experiments.generators.split import Split
from cfdg_rl.finetune import join

OBS = 3
ACTION = 2
WIDTH = 2 * OBS + ACTION + 2
SETTINGS = DiffusionSettings(width=8, blocks=1, sampling_steps=2, batch_size=32)


def rows(*shape, seed=0, around=False):
    """Uniform rows whose episodes end above a bound, or around a goal."""
    found = torch.rand(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))
    after = found[..., -1 - OBS : -1]
    found[..., -1] = ((after[..., :2] - 0.5).norm(dim=-1) < 0.2 if around else after[..., 0] > 0.9).float()
    return found


def model():
    outcomes = OutcomeSettings(width=8, layers=2, batch_size=32, ends=EndSettings(width=8, steps=40))
    return Split(OBS, ACTION, seeds=(0, 1), diffusion=SETTINGS, outcomes=outcomes)


def leaves(state):
    if isinstance(state, dict):
        return [leaf for key in sorted(state) for leaf in leaves(state[key])]
    return [state]


def agree(one, other, tolerance):
    for a, b in zip(leaves(one.state_dict()), leaves(other.state_dict()), strict=True):
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            assert a == b


@pytest.mark.parametrize("around", [False, True])
def test_parts_are_learnt_as_joined_rows_are(around):
    parts = [(rows(1500, around=around), 0), (rows(2, 900, seed=1, around=around), 1), (rows(2, 0), 1)]
    one = model()
    one.fit(*join(parts), steps=20)
    other = model()
    other.fit_parts(parts, steps=20)
    assert bool(one.outcomes.ends.threshold.isfinite().any()) == around
    agree(one, other, 2e-3)


@pytest.mark.parametrize("shape", [(600,), (2, 600)])
def test_a_single_part_gives_the_bits_of_its_rows(shape):
    part = (rows(*shape, around=True), 1)
    one = model()
    one.fit(*join([part]), steps=10)
    other = model()
    other.fit_parts([(rows(0), 0), part], steps=10)
    agree(one, other, 0.0)


def test_a_refresh_joins_no_parts(monkeypatch):
    def joined(parts):
        raise AssertionError("the parts were joined")

    for module in (fitted, split):
        monkeypatch.setattr(module, "join", joined)
    generator = Fitted(model(), Schedule(first_steps=4, steps=4))
    generator.fit_parts([(rows(1100), 0), (rows(2, 300, seed=1), 1)])
    assert generator.fits == 1


def test_the_rule_of_ends_of_parts_is_that_of_joined_states():
    """Ranges are the same to the bit, however rows are cut."""
    states = rows(2, 2600)[..., -1 - OBS : -1]
    ended = rows(2, 2600)[..., -1] > 0.5
    one = EndRule(OBS, (0, 1))
    one.fit(states, ended)
    other = EndRule(OBS, (0, 1))
    other.fit_parts(
        [(states[:, :7], ended[:, :7]), (states[:, 7:1500], ended[:, 7:1500]), (states[:, 1500:], ended[:, 1500:])]
    )
    assert torch.equal(one.high, other.high)
    assert torch.equal(one.low, other.low)
    cut = EndStates([(states[:, :7], ended[:, :7]), (states[:, 7:], ended[:, 7:])], 2)
    index = torch.tensor([[0, 6, 7, 2599], [8, 1, 1500, 6]])
    assert torch.equal(cut.rows_at(index), torch.stack([states[0, index[0]], states[1, index[1]]]))
    torch.testing.assert_close(cut.moments(), EndStates([(states, ended)], 2).moments())
