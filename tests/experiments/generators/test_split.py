"""Generator in two parts: (s, a) of each label, outcomes of known dynamics, rows with impossible states replaced."""

import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_experiments.generators.deltas import Deltas
from cfdg_experiments.generators.outcomes import OutcomeSettings
from cfdg_experiments.generators.split import Split, choose_rows
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint

OUTCOMES = OutcomeSettings(width=32, layers=2, batch_size=128)
DIFFUSION = DiffusionSettings(width=48, blocks=2, guidance_weight=0.0, precision="fp32")
BRIEF = DiffusionSettings(width=16, blocks=1, sampling_steps=4, batch_size=32, precision="fp32")
LIMIT = 1.0
MEAN = (-1.0, 0.0)


def rows_of(count, seed=0):
    """Rows (s, a, r, s', d), one state and one action: label 0 lives around -1, label 1 around 0; s' > 1 is an end."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    obs = torch.tensor(MEAN)[labels] + torch.tensor([0.3, 0.5])[labels] * torch.randn(count, generator=rng)
    action = (0.5 * torch.randn(count, generator=rng)).clamp(-1, 1)
    after = 0.8 * obs + 0.6 * action
    rows = torch.stack([obs, action, obs * action, after, (after > LIMIT).float()], dim=1)
    kept = obs <= LIMIT
    return rows[kept][None], labels[kept][None]


def split(seeds=(0,), diffusion=BRIEF, outcomes=OUTCOMES):
    return Split(1, 1, seeds=seeds, diffusion=diffusion, outcomes=outcomes)


@pytest.fixture(scope="module")
def generated():
    rows, labels = rows_of(8000)
    model = split(diffusion=DIFFUSION)
    model.fit(rows, labels, steps=1000)
    asked = torch.arange(8000)[None] % 2
    return model.sample(asked)[0], asked[0], rows[0], labels[0]


def test_each_label_has_its_own_states_and_actions(generated):
    made, asked, real, labels = generated
    for label in (0, 1):
        ours = made[asked == label, :2]
        theirs = real[labels == label, :2]
        assert (ours.mean(0) - theirs.mean(0)).abs().max() < 0.1
        torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.1, rtol=0)


def test_outcomes_are_those_of_the_dynamics_whatever_the_label(generated):
    made, *_ = generated
    truth = 0.8 * made[:, 0] + 0.6 * made[:, 1]
    assert float((made[:, 3] - truth).abs().max()) < 0.05
    assert float((made[:, 2] - made[:, 0] * made[:, 1]).abs().median()) < 0.02


def test_ends_are_marked_where_the_true_next_state_is_one(generated):
    made, *_ = generated
    truth = 0.8 * made[:, 0] + 0.6 * made[:, 1] > LIMIT
    found = made[:, 4] > 0.5
    hits = float((found & truth).sum())
    assert truth.sum() > 20
    assert hits / float(truth.sum()) >= 0.8
    assert hits / float(found.sum()) >= 0.9


def test_no_row_begins_in_an_end_and_actions_are_in_range(generated):
    made, *_ = generated
    assert float(made[:, 0].max()) <= LIMIT + 0.02
    assert float(made[:, 1].abs().max()) <= 1.0


def test_rows_that_are_not_valid_give_way_to_spares_then_to_others_of_their_label():
    valid = torch.tensor([[True, False, False, True, False, True, True]])
    labels = torch.tensor([[0, 0, 0, 1, 1, 0, 1]])
    assert choose_rows(valid, labels, 5).tolist() == [[0, 5, 0, 3, 6]]


def test_a_label_without_a_valid_row_keeps_its_rows():
    valid = torch.tensor([[False, True, False]])
    assert choose_rows(valid, torch.tensor([[0, 1, 0]]), 2).tolist() == [[0, 1]]


def test_a_restored_model_continues_bit_for_bit(tmp_path):
    rows, labels = rows_of(400)
    first = split(seeds=(1, 2))
    both = rows.expand(2, -1, -1), labels.expand(2, -1)
    first.fit(*both, steps=10)
    save_checkpoint(tmp_path / "state.safetensors", first.state_dict())
    other = split(seeds=(1, 2))
    other.load_state_dict(load_checkpoint(tmp_path / "state.safetensors"))
    for model in (first, other):
        model.fit(*both, steps=10)
    asked = torch.arange(60).expand(2, -1) % 2
    assert torch.equal(first.sample(asked), other.sample(asked))


def test_after_a_reset_the_weights_are_those_of_the_seeds():
    rows, labels = rows_of(400)
    model = split()
    fresh = model.state_dict()
    model.fit(rows, labels, steps=5)
    model.reset()
    again = model.state_dict()
    for part in ("pairs", "outcomes"):
        assert torch.equal(again[part]["learner"]["weights"], fresh[part]["learner"]["weights"])


class Recorder:
    """A model that keeps what it is given and generates it again."""

    device = torch.device("cpu")

    def fit(self, rows, labels, *, steps=None):
        self.rows = rows
        return steps

    def sample(self, labels):
        return self.rows


def test_deltas_are_learnt_where_they_are_narrower_and_undone_afterwards():
    rng = torch.Generator().manual_seed(0)
    obs = torch.randn(1, 200, 2, generator=rng)
    after = torch.stack([obs[..., 0] + 0.1, torch.randn(1, 200, generator=rng)], dim=-1)
    rows = torch.cat([obs, torch.zeros(1, 200, 2), after, torch.zeros(1, 200, 1)], dim=-1)
    inner = Recorder()
    model = Deltas(inner, 2, 1)
    model.fit(rows, torch.zeros(1, 200, dtype=torch.long), steps=3)
    torch.testing.assert_close(inner.rows[..., 4], torch.full((1, 200), 0.1))
    assert torch.equal(inner.rows[..., 5], rows[..., 5])
    torch.testing.assert_close(model.sample(torch.zeros(1, 200, dtype=torch.long)), rows)


def test_deltas_continue_bit_for_bit():
    rows, labels = rows_of(300)
    first, other = (Deltas(ConditionalDiffusion(5, 2, settings=BRIEF), 1, 1) for _ in range(2))
    first.fit(rows, labels, steps=5)
    other.load_state_dict(first.state_dict())
    assert torch.equal(first.sample(labels), other.sample(labels))
