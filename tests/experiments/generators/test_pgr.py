"""PGR: classes of relevance, curiosity where the dynamics are new, and generation from the top."""

import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_experiments.generators import Curiosity, CuriositySettings, Pgr, PgrSettings, Schedule, pgr_diffusion
from cfdg_experiments.generators.pgr import quantile_classes
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, to_rows

SEEDS = (0, 1)
SMALL = DiffusionSettings(width=32, blocks=1, sampling_steps=10, precision="fp32")


class First:
    """Relevance is the first column."""

    def fit(self, rows):
        pass

    def relevance(self, rows):
        return rows[..., 0]

    def state(self):
        return {}

    def restore(self, state):
        pass


def line(count=1200):
    """s' = s + a, but for the states beyond 1, where the sign of a coin decides."""
    rng = torch.Generator().manual_seed(0)
    obs = torch.randn(len(SEEDS), count, 1, generator=rng)
    action = torch.rand(obs.shape, generator=rng) * 2 - 1
    coin = 2.0 * torch.randint(2, obs.shape, generator=rng) - 1
    after = torch.where(obs > 1, obs + coin, obs + action)
    rows = to_rows(Transitions(obs, action, after[..., 0], after, torch.zeros(obs.shape[:2])))
    return rows, torch.ones(len(SEEDS), count, dtype=torch.long)


def make(relevance, steps=300, **changes):
    settings = PgrSettings(**changes)
    model = ConditionalDiffusion(5, settings.classes, seeds=SEEDS, settings=pgr_diffusion(SMALL), raw_columns=(4,))
    return Pgr(model, Schedule(steps, steps), relevance, Streams(SEEDS, "test"), settings)


def test_classes_have_equal_sizes_and_the_order_of_the_values():
    values = torch.randn(2, 103, generator=torch.Generator().manual_seed(0))
    found = quantile_classes(values, 4)
    sizes = torch.stack([(found == label).sum(1) for label in range(4)])
    assert sizes.min() >= 25
    assert sizes.max() <= 26
    for r in range(2):
        assert (found[r][values[r].argsort()].diff() >= 0).all()


def test_curiosity_is_high_where_the_outcome_cannot_be_foreseen():
    rows, _ = line()
    curiosity = Curiosity(1, 1, SEEDS, CuriositySettings(width=32, steps=300, learning_rate=1e-2))
    curiosity.fit(rows)
    found = curiosity.relevance(rows)
    odd = rows[..., 0] > 1
    for r in range(2):
        assert found[r][odd[r]].mean() > 5 * found[r][~odd[r]].mean()


def test_rows_are_generated_from_the_most_relevant():
    rows, labels = line()
    generator = make(First(), classes=4)
    generator.fit(rows, labels)
    drawn = generator.sample(torch.zeros(2, 500, dtype=torch.long))
    border = rows[..., 0].quantile(0.75, dim=1, keepdim=True)
    assert ((drawn[..., 0] > border - 0.1).float().mean(1) > 0.8).all()


def test_the_online_rows_alone_are_fitted_unless_all_are_asked_for():
    rows, labels = line(100)
    labels = labels.clone()
    labels[:, :60] = 0
    for source, count in (("online", 40), ("merged", 100)):
        generator = make(First(), steps=1, source=source, classes=4)
        assert int(generator.fit(rows, labels).label_counts[0].sum()) == count
        parts = [(rows[:, :60], 0), (rows[:, 60:], 1)]
        assert int(generator.fit_parts(parts).label_counts[0].sum()) == count


def test_top_classes_and_guidance_are_pgrs():
    assert PgrSettings().top_classes == 2
    assert PgrSettings(classes=3, top_fraction=0.01).top_classes == 1
    assert (pgr_diffusion(SMALL).p_uncond, 1 + pgr_diffusion(SMALL).guidance_weight) == (0.25, 2.0)


def test_a_restored_generator_goes_on_bit_for_bit():
    rows, labels = line(100)
    asked = torch.zeros(2, 10, dtype=torch.long)

    def new():
        return make(Curiosity(1, 1, SEEDS, CuriositySettings(width=8, steps=3)), steps=3)

    first = new()
    second = new()
    first.fit(rows, labels)
    first.sample(asked)
    second.restore(first.state())
    for generator in (first, second):
        generator.fit(rows, labels)
    assert torch.equal(first.sample(asked), second.sample(asked))


def test_refusals():
    with pytest.raises(ValueError, match="there are 3 rows for 8 classes, expected at least one of each"):
        quantile_classes(torch.zeros(1, 3), 8)
    with pytest.raises(ValueError, match="classes is 1, expected at least 2"):
        PgrSettings(classes=1)
    with pytest.raises(ValueError, match="top_fraction is 0, expected more than 0"):
        PgrSettings(top_fraction=0)
    with pytest.raises(ValueError, match="source is 'offline', expected one of online, merged"):
        PgrSettings(source="offline")
