"""Learnt models as generators: when they start anew, which rows they see, and that they resume."""

from dataclasses import replace

import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_experiments.generators import Fitted, Schedule, SeparateModels, Unlabelled

SMALL = DiffusionSettings(width=8, blocks=1, batch_size=8, sampling_steps=3, precision="fp32")


class Diary:
    """A model that writes down its calls, and hands out rows that hold the labels asked for and its name."""

    def __init__(self, name=0.0):
        self.calls = []
        self.name = name

    def fit(self, rows, labels, *, steps=None):
        self.calls.append(steps)
        self.rows = rows
        self.labels = labels
        return steps

    def sample(self, labels):
        return torch.stack([labels.float(), torch.full(labels.shape, self.name)], dim=-1)

    def reset(self):
        self.calls.append("reset")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def small(seeds, labels=2):
    return ConditionalDiffusion(7, labels, seeds=seeds, settings=SMALL, raw_columns=(6,))


@pytest.mark.parametrize(("warm", "calls"), [(False, [30, "reset", 30, "reset", 30]), (True, [30, 10, 10])])
def test_the_schedule_of_three_refreshes(data, warm, calls):
    generator = Fitted(Diary(), Schedule(30, 10, warm))
    for _ in range(3):
        generator.fit(data.rows, data.labels)
    assert generator.model.calls == calls


def test_one_label_fits_its_rows_alone_and_generates_under_any_label(data):
    generator = Unlabelled(Fitted(Diary(), Schedule(1, 1)), only=1)
    generator.fit(data.rows, data.labels)
    assert torch.equal(generator.generator.model.rows, data.rows[:, 60:])
    assert generator.generator.model.labels.unique().tolist() == [0]
    assert generator.sample(data.asked)[..., 0].unique().tolist() == [0.0]


def test_the_union_fits_all_rows_under_one_label(data):
    generator = Unlabelled(Fitted(Diary(), Schedule(1, 1)))
    generator.fit(data.rows, data.labels)
    assert torch.equal(generator.generator.model.rows, data.rows)
    assert generator.generator.model.labels.unique().tolist() == [0]
    assert generator.sample(data.asked).shape[:2] == data.asked.shape


def test_separate_models_see_and_generate_their_own_label(data):
    models = [Diary(10.0), Diary(11.0)]
    generator = SeparateModels([Fitted(model, Schedule(1, 1)) for model in models])
    generator.fit(data.rows, data.labels)
    assert torch.equal(models[0].rows, data.rows[:, :60])
    assert torch.equal(models[1].rows, data.rows[:, 60:])
    asked = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]])
    drawn = generator.sample(asked)
    assert torch.equal(drawn[..., 1], 10.0 + asked)
    assert not drawn[..., 0].any()


def test_separate_models_share_the_steps_of_one():
    assert Schedule(31, 10, True).shared_by(2) == Schedule(15, 5, True)
    assert Schedule(1, 1).shared_by(2) == Schedule(1, 1)


@pytest.mark.parametrize("warm", [False, True])
def test_a_restored_generator_goes_on_bit_for_bit(data, warm):
    schedule = Schedule(4, 3, warm)

    def make():
        return [
            Fitted(small(data.seeds), schedule),
            Unlabelled(Fitted(small(data.seeds, 1), schedule), only=1),
            Unlabelled(Fitted(small(data.seeds, 1), schedule)),
            SeparateModels([Fitted(small(data.seeds, 1), schedule) for _ in range(2)]),
        ]

    for generator, other in zip(make(), make(), strict=True):
        generator.fit(data.rows, data.labels)
        generator.sample(data.asked)
        other.restore(generator.state())
        assert torch.equal(other.sample(data.asked), generator.sample(data.asked))
        for one in (generator, other):
            one.fit(data.rows, data.labels)
        assert torch.equal(other.sample(data.asked), generator.sample(data.asked))


def test_refusals(data):
    uneven = data.labels.clone()
    uneven[0, 0] = 1
    with pytest.raises(ValueError, match=r"label 1 has \[30, 31\] rows per replica, expected one number of at least 1"):
        Unlabelled(Fitted(Diary(), Schedule(1, 1)), only=1).fit(data.rows, uneven)
    with pytest.raises(ValueError, match=r"label 7 has \[0\] rows"):
        Unlabelled(Fitted(Diary(), Schedule(1, 1)), only=7).fit(data.rows, data.labels)
    with pytest.raises(ValueError, match="label is 1, expected 0 to 0"):
        SeparateModels([Fitted(Diary(), Schedule(1, 1))]).sample(data.asked)
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        replace(Schedule(), steps=0)
