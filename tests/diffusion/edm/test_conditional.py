import math
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings, NotFittedError
from cfdg_diffusion.edm.losses import looks
from cfdg_diffusion.storage import leaves

TINY = DiffusionSettings(width=16, blocks=1, batch_size=32, steps=20, sampling_steps=5, precision="fp32", chunk_rows=8)
ROWS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 20.0, 0.1]) + 5
LABELS = torch.arange(60) % 2


def tiny(**arguments):
    return ConditionalDiffusion(3, 2, **{"settings": TINY} | arguments)


def assert_same(state, other):
    state, other = leaves(state), leaves(other)
    assert state.keys() == other.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def fitted_state():
    model = tiny()
    model.fit(ROWS, LABELS)
    return model.state_dict()


@pytest.fixture
def fitted(fitted_state):
    model = tiny()
    model.load_state_dict(fitted_state)
    return model


@pytest.fixture(scope="module")
def mixture():
    """A model of two Gaussians, N(-3, 0.5^2) x N(0, 1) and N(2, 1) x N(0, 0.3^2), of which one is rare."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(5000, generator=generator) < 0.1).long()
    mean = torch.tensor([[-3.0, 0.0], [2.0, 0.0]])
    std = torch.tensor([[0.5, 1.0], [1.0, 0.3]])
    rows = mean[labels] + std[labels] * torch.randn(5000, 2, generator=generator)
    settings = DiffusionSettings(width=64, blocks=2, steps=1500, guidance_weight=0.0, precision="fp32")
    model = ConditionalDiffusion(2, 2, settings=settings)
    model.fit(rows, labels)
    return model, mean, std


@pytest.mark.parametrize("label", [0, 1])
def test_each_class_of_a_mixture_is_recovered(mixture, label):
    model, mean, std = mixture
    rows = model.sample(torch.full((10_000,), label))
    standard = (rows - mean[label]) / std[label]
    torch.testing.assert_close(standard.mean(0), torch.zeros(2), atol=0.12, rtol=0)
    torch.testing.assert_close(standard.std(0), torch.ones(2), atol=0.12, rtol=0)
    quantiles = torch.tensor([0.1, 0.25, 0.75, 0.9])
    normal = math.sqrt(2) * torch.erfinv(2 * quantiles - 1)
    torch.testing.assert_close(standard.quantile(quantiles, dim=0), normal[:, None].expand(-1, 2), atol=0.15, rtol=0)


def test_weight_minus_one_gives_the_equal_mixture_of_the_classes(mixture):
    rows = mixture[0].sample(torch.zeros(10_000, dtype=torch.long), guidance_weight=-1.0)
    assert float((rows[:, 0] > -0.75).float().mean()) == pytest.approx(0.5, abs=0.08)


def test_guidance_moves_a_class_away_from_the_other(mixture):
    labels = torch.ones(4000, dtype=torch.long)
    plain, pushed = (mixture[0].sample(labels, guidance_weight=weight)[:, 0].mean() for weight in (0.0, 2.0))
    assert pushed > plain + 0.1


def test_guidance_on_some_columns_leaves_the_others_in_their_class(mixture):
    labels = torch.ones(4000, dtype=torch.long)
    plain = mixture[0].sample(labels, guidance_weight=0.0)
    pushed = mixture[0].sample(labels, guidance_weight=2.0, guided_columns=[0])
    assert pushed[:, 0].mean() > plain[:, 0].mean() + 0.1
    torch.testing.assert_close(pushed[:, 1].std(), plain[:, 1].std(), atol=0.05, rtol=0)


@pytest.mark.parametrize("sampler", ["heun", "heun-stochastic"])
def test_samplers_agree_on_the_distribution(mixture, sampler):
    model, mean, std = mixture
    other = ConditionalDiffusion(2, 2, settings=replace(model.settings, sampler=sampler, sampling_steps=64))
    other.load_state_dict(model.state_dict())
    rows = other.sample(torch.zeros(5000, dtype=torch.long))
    standard = (rows - mean[0]) / std[0]
    torch.testing.assert_close(standard.mean(0), torch.zeros(2), atol=0.15, rtol=0)
    torch.testing.assert_close(standard.std(0), torch.ones(2), atol=0.15, rtol=0)


def test_a_constant_column_is_reproduced():
    rows = ROWS.clone()
    rows[:, 1] = 0.1
    model = tiny()
    model.fit(rows, LABELS)
    sampled = model.sample(LABELS)
    assert torch.equal(sampled[:, 1], rows[:, 1])
    assert sampled.isfinite().all()


def test_a_raw_column_is_learnt_in_its_own_units():
    rows = ROWS.clone()
    rows[:, 2] = (LABELS == 1).float()
    settings = DiffusionSettings(width=32, blocks=2, steps=600, guidance_weight=0.0, precision="fp32")
    model = ConditionalDiffusion(3, 2, settings=settings, raw_columns=(2,))
    model.fit(rows, LABELS)
    state = model.state_dict()
    assert state["normaliser"]["mean"][0, 2] == 0
    assert state["normaliser"]["std"][0, 2] == 1
    flags = model.sample(LABELS.repeat(10))[:, 2] > 0.5
    assert float((flags == LABELS.repeat(10).bool()).float().mean()) > 0.97


@pytest.mark.parametrize("sampler", ["dpm", "heun", "heun-stochastic"])
@pytest.mark.parametrize("own_data", [False, True])
def test_replicas_together_are_the_replicas_alone(sampler, own_data):
    settings = DiffusionSettings(
        width=16, blocks=1, batch_size=32, steps=20, sampling_steps=5, precision="fp32", chunk_rows=8, sampler=sampler
    )
    rows = torch.stack([ROWS, 2 * ROWS]) if own_data else ROWS
    labels = torch.stack([LABELS, (LABELS + torch.arange(60) // 50) % 2]) if own_data else LABELS
    together = tiny(seeds=(3, 4), settings=settings)
    report = together.fit(rows, labels)
    sampled = together.sample(LABELS[:13])
    assert sampled.shape == (2, 13, 3)
    for replica, seed in enumerate((3, 4)):
        alone = tiny(seeds=(seed,), settings=settings)
        own = alone.fit(rows[replica] if own_data else rows, labels[replica] if own_data else labels)
        torch.testing.assert_close(own.losses[:, 0], report.losses[:, replica], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.sample(LABELS[:13]), sampled[replica], atol=1e-2, rtol=1e-3)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    samples = []
    for seed in (0, 0, 1):
        model = tiny(seeds=(seed,))
        model.fit(ROWS, LABELS)
        samples.append(model.sample(LABELS))
    assert torch.equal(samples[0], samples[1])
    assert not torch.allclose(samples[0], samples[2])


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_any_number_of_rows_can_be_sampled(fitted, count):
    rows = fitted.sample(LABELS[:count])
    assert rows.shape == (count, 3)
    assert rows.dtype == torch.float32
    assert rows.isfinite().all()


def test_a_remainder_changes_no_row_before_it(fitted_state):
    short, long = tiny(), tiny()
    for model in (short, long):
        model.load_state_dict(fitted_state)
    torch.testing.assert_close(short.sample(LABELS[:8]), long.sample(LABELS[:11])[:8])


def test_samples_come_from_the_averaged_weights(fitted_state):
    samples = []
    learner = fitted_state["learner"]
    for changed in ({}, {"learner": learner | {"weights": torch.zeros_like(learner["weights"])}}):
        model = tiny()
        model.load_state_dict(fitted_state | changed)
        samples.append(model.sample(LABELS))
    assert torch.equal(samples[0], samples[1])


def test_labels_per_replica_give_rows_per_replica(fitted):
    assert fitted.sample(LABELS[None, :6]).shape == (1, 6, 3)
    assert fitted.sample(LABELS[:6].numpy()).shape == (6, 3)


def test_bfloat16_trains_to_the_same_loss():
    losses = []
    for precision in ("fp32", "bf16"):
        settings = DiffusionSettings(width=32, blocks=2, steps=200, precision=precision)
        losses.append(float(tiny(settings=settings).fit(ROWS, LABELS).losses[-10:].mean()))
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_second_fit_starts_where_the_first_ended():
    line = ROWS[:, :1] * torch.tensor([1.0, 2.0, -1.0])  # rows on a line are soon learnt
    model = tiny(settings=replace(TINY, width=32, blocks=2, batch_size=128))
    first = model.fit(line, LABELS, steps=300)
    again = model.fit(line, LABELS, steps=50)
    assert again.steps == 50
    assert again.losses[:5].mean() < 0.5 * first.losses[0]
    model.reset()
    assert model.fit(line, LABELS, steps=10).losses[0] > 0.8 * first.losses[0]


def test_a_second_fit_takes_the_statistics_of_its_own_rows():
    model = tiny()
    model.fit(ROWS, LABELS)
    model.fit(ROWS + 100, LABELS)
    torch.testing.assert_close(model.state_dict()["normaliser"]["mean"][0], (ROWS + 100).mean(0), atol=1e-3, rtol=1e-5)


def test_the_report_counts_labels_and_notes_losses():
    report = tiny(seeds=(0, 1)).fit(ROWS, (LABELS + torch.arange(60) // 50) % 2, steps=120)
    assert report.label_counts.tolist() == [[30, 30]] * 2
    assert report.losses.shape == (len(report.loss_steps), 2)
    assert report.loss_steps == (*range(3, 121, 3),)
    assert report.seconds > 0


def test_whoever_iterates_sees_the_losses_of_each_step_and_may_stop():
    whole, broken = tiny(seeds=(0, 1)), tiny(seeds=(0, 1))
    report = whole.fit(ROWS, LABELS)
    means = list(looks(broken.training(ROWS, LABELS), TINY.steps))
    assert [step for step, _ in means] == list(report.loss_steps)
    assert torch.equal(torch.stack([mean for _, mean in means]), report.losses)
    assert_same(broken.state_dict(), whole.state_dict())
    broken.reset()
    for step, losses in broken.training(ROWS, LABELS):
        assert losses.shape == (2,)
        if step == 7:
            break
    assert int(broken.state_dict()["learner"]["updates"]) == 7


def test_training_continues_after_any_step_bit_for_bit():
    whole, first, second = tiny(), tiny(), tiny()
    whole.fit(ROWS, LABELS)
    for step, _ in first.training(ROWS, LABELS):
        if step == 7:
            break
    second.load_state_dict(first.state_dict())
    assert [step for step, _ in second.training(ROWS, LABELS, start=7)] == list(range(8, TINY.steps + 1))
    assert_same(second.state_dict(), whole.state_dict())


@pytest.mark.parametrize("start", [-1, 20])
def test_a_start_outside_the_training_is_refused(fitted, start):
    with pytest.raises(ValueError, match=f"start is {start}, expected a step from 0 to 19"):
        fitted.training(ROWS, LABELS, start=start)


def test_a_loaded_state_continues_bit_for_bit(fitted_state):
    first, second = tiny(), tiny()
    for model in (first, second):
        model.load_state_dict(fitted_state)
    first.fit(ROWS, LABELS)
    original = tiny()
    original.fit(ROWS, LABELS)
    original.fit(ROWS, LABELS)
    assert torch.equal(first.sample(LABELS), original.sample(LABELS))
    assert_same(first.state_dict(), original.state_dict())


def test_a_saved_model_samples_and_trains_on_identically(tmp_path):
    path = tmp_path / "folder" / "model.safetensors"
    model = tiny(seeds=(5, 6), raw_columns=(2,))
    model.fit(ROWS, LABELS)
    model.save(path)
    assert os.listdir(path.parent) == ["model.safetensors"]
    loaded = ConditionalDiffusion.load(path)
    assert (loaded.settings, loaded.seeds, loaded.raw_columns) == (TINY, (5, 6), (2,))
    assert torch.equal(model.sample(LABELS), loaded.sample(LABELS))
    model.fit(ROWS, LABELS)
    loaded.fit(ROWS, LABELS)
    assert torch.equal(model.sample(LABELS), loaded.sample(LABELS))


def test_an_unfitted_model_can_be_saved_too(tmp_path):
    tiny().save(tmp_path / "model")
    loaded = ConditionalDiffusion.load(tmp_path / "model")
    loaded.fit(ROWS, LABELS)
    model = tiny()
    model.fit(ROWS, LABELS)
    assert torch.equal(model.sample(LABELS), loaded.sample(LABELS))


def test_a_cut_file_is_refused(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    whole = (tmp_path / "model").read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut is not a safetensors file or is cut short"):
            ConditionalDiffusion.load(tmp_path / "cut")


HEADER = {"format": "cfdg-diffusion", "version": "2"}
OLD = HEADER | {"version": "1"}
SIZES = '{"columns": 3, "num_labels": 2, "settings": {}, "categories": []}'


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "has format None, expected 'cfdg-diffusion'"),
        (HEADER | {"version": "3"}, "has version '3', expected 1 to 2: update"),
        (HEADER, "has a header that cannot be read"),
        (HEADER | {"tree": '{"arguments": {"columns": 3}}'}, "does not describe a model of this version"),
        (HEADER | {"tree": f'{{"arguments": {SIZES}, "state": {{"x": {{"tensor": "x"}}}}}}'}, "missing or unknown"),
        (HEADER | {"tree": '{"x": {"tensor": "y"}}'}, "has a header that cannot be read"),
        (OLD, "has a header that cannot be read"),
        (OLD | {"arguments": '{"columns": 3}'}, "does not describe a model of this version"),
        (OLD | {"arguments": SIZES}, "missing or unknown"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path, header, message):
    save_file({"x": torch.zeros(1)}, tmp_path / "model", metadata=header)
    with pytest.raises(ValueError, match=message):
        ConditionalDiffusion.load(tmp_path / "model")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent is not a file"):
        ConditionalDiffusion.load(tmp_path / "absent")


def test_a_state_of_another_model_is_refused_and_changes_nothing(fitted):
    before = fitted.state_dict()
    other = ConditionalDiffusion(4, 2, settings=TINY).state_dict()
    with pytest.raises(ValueError, match=r"state 'learner.weights' has shape \(1, \d+\), expected \(1, \d+\)"):
        fitted.load_state_dict(other)
    with pytest.raises(ValueError, match=r"\['label_counts'\] missing or unknown"):
        fitted.load_state_dict({name: tensor for name, tensor in before.items() if name != "label_counts"})
    assert_same(fitted.state_dict(), before)


NAN = ROWS.clone()
NAN[7, 1] = math.nan


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (ROWS[:, :2], LABELS, r"rows have shape \(60, 2\), expected \(N, 3\) or \(1, N, 3\) with N >= 1"),
        (ROWS.expand(2, -1, -1), LABELS, r"rows have shape \(2, 60, 3\)"),
        (ROWS[:0], LABELS[:0], r"rows have shape \(0, 3\)"),
        (NAN, LABELS, r"not finite in column 1 \(first in row 7\)"),
        (ROWS.double() * 1e300, LABELS, "not finite in column 0"),
        (ROWS, LABELS[:-1], "there are 59 labels for 60 rows"),
        (ROWS, LABELS + 1, r"labels hold 2, expected integers in \[0, 2\)"),
        (ROWS, LABELS - 1, "labels hold -1"),
        (ROWS, LABELS.float(), "labels have type torch.float32, expected integers"),
        (ROWS, LABELS.expand(2, -1), r"labels have shape \(2, 60\), expected \(n,\) or \(1, n\)"),
    ],
)
def test_bad_data_is_refused_in_one_sentence(rows, labels, message):
    with pytest.raises(ValueError, match=message):
        tiny().fit(rows, labels)


def test_a_refused_fit_changes_nothing(fitted):
    before = fitted.state_dict()
    with pytest.raises(ValueError, match="not finite"):
        fitted.fit(NAN, LABELS)
    assert_same(fitted.state_dict(), before)


def test_a_label_without_rows_cannot_be_sampled(fitted):
    fitted.fit(ROWS, torch.zeros_like(LABELS))
    assert fitted.sample(torch.zeros(2, dtype=torch.long)).isfinite().all()
    with pytest.raises(ValueError, match="label 1 had no rows in the latest fit"):
        fitted.sample(LABELS)


def test_an_unfitted_model_cannot_sample():
    with pytest.raises(NotFittedError, match="label 0 had no rows"):
        tiny().sample(LABELS)


def test_no_steps_are_refused(fitted):
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        fitted.fit(ROWS, LABELS, steps=0)
    with pytest.raises(ValueError, match="steps = 0"):
        fitted.sample(LABELS, steps=0)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_guidance_weight_must_be_finite(fitted, weight):
    with pytest.raises(ValueError, match=r"guidance_weight is (nan|inf), expected a finite number"):
        fitted.sample(LABELS, guidance_weight=weight)


def test_training_that_diverges_says_so():
    settings = DiffusionSettings(width=16, blocks=1, steps=30, learning_rate=1e30, precision="fp32")
    with pytest.raises(RuntimeError, match="lower learning_rate"):
        tiny(settings=settings).fit(ROWS, LABELS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": 0, "num_labels": 2}, "columns = 0 and num_labels = 2"),
        ({"columns": 3, "num_labels": 0}, "num_labels = 0"),
        ({"columns": 3, "num_labels": 2, "raw_columns": (3,)}, r"raw_columns are \[3\], expected columns in \[0, 3\)"),
        ({"columns": 3, "num_labels": 2, "seeds": ()}, r"seeds are \[\]"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConditionalDiffusion(**arguments)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("width", 0, "an integer >= 1"),
        ("blocks", 1.5, "an integer >= 1"),
        ("batch_size", -1, "an integer >= 1"),
        ("steps", 0, "an integer >= 1"),
        ("sampling_steps", 0, "an integer >= 1"),
        ("sigma_leap", 90.0, "0 or a noise level between sigma_min and sigma_max"),
        ("chunk_rows", 0, "an integer >= 1"),
        ("learning_rate", 0.0, "a number > 0"),
        ("gradient_clip", math.nan, "a number > 0"),
        ("p_std", math.inf, "a number > 0"),
        ("ema_decay", 1.0, "a number in [0, 1)"),
        ("p_uncond", 1.1, "a probability in [0, 1]"),
        ("guidance_weight", math.nan, "a finite number"),
        ("p_mean", math.inf, "a finite number"),
        ("sampler", "euler", "one of dpm, heun, heun-stochastic"),
        ("precision", "fp16", "one of auto, fp32, bf16"),
    ],
)
def test_settings_name_what_is_wrong(name, value, expected):
    with pytest.raises(ValueError, match=f"^{name} is ") as raised:
        DiffusionSettings(**{name: value})
    assert str(raised.value).endswith(f"expected {expected}")


def test_tensors_can_be_edited_and_differentiated_through():
    """Whatever the arguments, a public method returns ordinary tensors."""
    rows = torch.randn(40, 3)
    labels = torch.arange(40) % 2
    for seeds in ((0,), (0, 1)):
        model = ConditionalDiffusion(3, 2, seeds=seeds, settings=DiffusionSettings(width=8, blocks=1, batch_size=8))
        model.fit(rows, labels, steps=1)
        known = torch.full((4, 3), torch.nan)
        known[:, 0] = 1.0
        made = [
            model.sample(labels[:4], steps=2),
            model.sample(labels[:4], steps=2, guidance_weight=1.0),
            model.sample(labels[:4], steps=2, known=known),
            model.held_out_loss(rows, labels),
        ]
        for found in made:
            assert not found.is_inference()
            found[..., 0].clamp_(0, 1)
            weights = found.clone().requires_grad_()
            (weights * found).sum().backward()
            assert weights.grad is not None


def test_streams_of_a_call_leave_those_of_the_model_alone():
    model = ConditionalDiffusion(2, 1, settings=DiffusionSettings(width=8, blocks=1, batch_size=8))
    model.fit(torch.randn(40, 2), torch.zeros(40, dtype=torch.long), steps=1)
    labels = torch.zeros(5, dtype=torch.long)
    own = model.state_dict()["streams"]["sampling"]
    first = model.sample(labels, steps=2, streams=model.sampling_streams((7,)))
    assert torch.equal(model.state_dict()["streams"]["sampling"], own)
    assert torch.equal(model.sample(labels, steps=2, streams=model.sampling_streams((7,))), first)
    model.restart_sampling((7,))
    assert torch.equal(model.sample(labels, steps=2), first)
    model.restart_sampling(model.sampling_streams((7,)))
    assert torch.equal(model.sample(labels, steps=2), first)
