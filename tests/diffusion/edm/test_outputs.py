"""Numbers and categories from one output vector: closed forms, Bayes' rule, and independence of the layout."""

import numpy as np
import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_diffusion.edm.noise import c_in, c_noise, c_out, c_skip, log_normal_sigma
from cfdg_diffusion.edm.outputs import Category, OutputHeads

ONE_HOT = np.eye(3, dtype=np.float32)
BINARY = np.array([[-0.5], [2.0]], dtype=np.float32)
CODES = np.array([[1, 1], [1, -1], [-1, 1]], dtype=np.float32)
CATEGORIES = [Category(1, ONE_HOT), Category(5, BINARY), Category(6, BINARY), Category(8, CODES)]  # numbers: 0, 4, 7
GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def rows(count):
    """Clean rows ``(count, 10)`` and the levels ``(count, 4)`` of their categories."""
    levels = torch.randint(0, 2, (count, 4), generator=torch.Generator().manual_seed(count))
    clean = normal(count, 10)
    for index, part in enumerate(CATEGORIES):
        words = torch.from_numpy(part.codes).double()
        clean[:, part.start : part.start + words.shape[1]] = words[levels[:, index]]
    return clean, levels


def precondition(network):
    """EDM, equation 7: D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), for data of unit variance."""

    def denoise(x, sigma):
        raw = network(x * c_in(sigma)[..., None], c_noise(sigma))
        return c_skip(sigma)[..., None] * x + c_out(sigma)[..., None] * raw

    return denoise


def loss_weight(sigma):
    """EDM, table 1: lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 with sigma_data = 1."""
    return (sigma.square() + 1) / sigma.square()


def denoising_loss(denoise, clean, sigma, noise):
    """EDM, equation 8: the weighted squared error, averaged over rows and columns."""
    error = denoise(clean + sigma[..., None] * noise, sigma) - clean
    return (loss_weight(sigma)[..., None] * error.square()).mean((-2, -1))


def test_without_categories_denoiser_and_loss_are_edm():
    heads = OutputHeads(4)
    clean = normal(6, 4)
    noise = normal(6, 4) + 1
    sigma = torch.linspace(0.1, 5, 6).double()
    weight = normal(4, 4)

    def network(x, level):
        return x @ weight + level[..., None]

    x = clean + sigma[:, None] * noise
    scale = (1 + sigma**2).rsqrt()[:, None]
    raw = network(x * scale, sigma.log() / 4)
    torch.testing.assert_close(heads.denoise(raw, x, sigma), precondition(network)(x, sigma))
    torch.testing.assert_close(
        heads.loss(raw, clean, x, sigma), denoising_loss(precondition(network), clean, sigma, noise)
    )


def test_a_network_of_zeros_loses_one_on_data_of_unit_variance():
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 50_000, 3, generator=generator)
    sigma = log_normal_sigma(torch.randn(4, 50_000, generator=generator))
    x = clean + sigma[..., None] * noise
    losses = OutputHeads(3).loss(torch.zeros_like(x), clean, x, sigma)
    torch.testing.assert_close(losses, torch.ones(4), atol=0.02, rtol=0)


def test_the_exact_denoiser_of_a_gaussian_reaches_its_known_loss():
    generator = torch.Generator().manual_seed(1)
    clean = 0.7 * torch.randn(200_000, 2, generator=generator)
    sigma = torch.full((200_000,), 0.5)
    x = clean + 0.5 * torch.randn(200_000, 2, generator=generator)
    exact = x * 0.49 / (0.49 + 0.25)
    raw = (exact - c_skip(sigma)[:, None] * x) / c_out(sigma)[:, None]
    remaining = 0.49 * 0.25 / (0.49 + 0.25)  # posterior variance
    found = float(OutputHeads(2).loss(raw, clean, x, sigma))
    assert found == pytest.approx(remaining * float(loss_weight(sigma[0])), rel=0.01)


def test_outputs_are_one_for_each_number_and_each_level():
    heads = OutputHeads(10, CATEGORIES)
    assert heads.outputs == 3 + 3 + 2 + 2 + 3
    assert heads.terms == 3 + 4
    assert heads.numbers.tolist() == [0, 4, 7]


def test_a_certain_category_comes_out_as_its_word_and_an_uncertain_one_as_their_mean():
    heads = OutputHeads(10, CATEGORIES)
    x, sigma = normal(1, 10), torch.ones(1).double()
    mean = heads.denoise(torch.zeros(1, heads.outputs).double(), x, sigma)[0]
    for part in CATEGORIES:
        found = mean[part.start : part.start + part.codes.shape[1]]
        torch.testing.assert_close(found, torch.from_numpy(part.codes).double().mean(0))
    sure = {len(part.codes): part for part in CATEGORIES}
    raw = torch.zeros(1, heads.outputs).double()
    raw[:, 3:] = 50 * normal(1, heads.outputs - 3).sign()
    for part in sure.values():
        found = heads.denoise(raw, x, sigma)[0, part.start : part.start + part.codes.shape[1]]
        assert found.abs().max() <= np.abs(part.codes).max() + 1e-9


def test_the_loss_is_cross_entropy_of_the_true_levels():
    heads, sigma = OutputHeads(10, CATEGORIES), torch.full((50,), 0.7).double()
    clean, levels = rows(50)
    x = clean + sigma[:, None] * normal(50, 10)
    raw = normal(50, heads.outputs)
    base = heads.loss(raw, clean, x, sigma)
    numbers = [0, 4, 7]
    target = (clean - x / (1 + 0.49)) / (0.7 / (1 + 0.49) ** 0.5)
    expected = (raw[:, :3] - target[:, numbers]).square().sum()
    place = 3
    for index in sorted(range(4), key=lambda index: CATEGORIES[index].codes.shape):
        count = len(CATEGORIES[index].codes)
        logits = raw[:, place : place + count]
        expected += torch.nn.functional.cross_entropy(logits, levels[:, index], reduction="sum")
        place += count
    torch.testing.assert_close(base, expected / 50 / 7)


def test_the_loss_is_least_at_the_posterior_and_denoises_to_the_posterior_mean():
    """Two levels at distance 2 with shares 0.3 and 0.7: Bayes' rule in closed form."""
    words, shares = np.array([[-1.0], [1.0]], dtype=np.float32), torch.tensor([0.3, 0.7]).double()
    heads, sigma = OutputHeads(1, [Category(0, words)]), torch.full((200_000,), 1.5).double()
    levels = (torch.rand(200_000, generator=GENERATOR) < 0.7).long()
    clean = torch.from_numpy(words).double()[levels]
    x = clean + 1.5 * torch.randn(200_000, 1, generator=GENERATOR, dtype=torch.float64)
    logits = shares.log() + x @ torch.tensor([[-1.0, 1.0]]).double() / 1.5**2
    best = heads.loss(logits, clean, x, sigma)
    for shift in (-0.1, 0.1):
        assert heads.loss(logits + torch.tensor([0, shift]).double(), clean, x, sigma) > best
        assert heads.loss(logits * (1 + shift), clean, x, sigma) > best
    posterior = logits.softmax(-1) @ torch.from_numpy(words).double()
    torch.testing.assert_close(heads.denoise(logits, x, sigma), posterior)
    assert abs(float((posterior - clean).mean())) < 0.01


@pytest.mark.parametrize("axes", [(2,), (3, 2)])
def test_leading_axes_are_independent(axes):
    heads = OutputHeads(10, CATEGORIES)
    clean, _ = rows(5)
    clean = clean.expand(*axes, 5, 10)
    sigma = normal(*axes, 5).exp()
    raw = normal(*axes, 5, heads.outputs)
    x = clean + sigma[..., None] * normal(*axes, 5, 10)
    together, losses = heads.denoise(raw, x, sigma), heads.loss(raw, clean, x, sigma)
    assert losses.shape == axes
    for index in np.ndindex(*axes):
        torch.testing.assert_close(together[index], heads.denoise(raw[index], x[index], sigma[index]))
        torch.testing.assert_close(losses[index], heads.loss(raw[index], clean[index], x[index], sigma[index]))


@pytest.mark.parametrize(
    ("categories", "sentence"),
    [
        ([Category(0, ONE_HOT), Category(2, BINARY)], "different ones in"),
        ([Category(8, ONE_HOT)], "different ones in"),
        ([Category(-1, BINARY)], "different ones in"),
        ([Category(0, ONE_HOT[:1])], "fewer than two levels"),
    ],
)
def test_impossible_layouts_are_refused(categories, sentence):
    with pytest.raises(ValueError, match=sentence):
        OutputHeads(10, categories)


def test_dependent_categories_are_generated_together(tmp_path):
    """Level b of the second column goes with level b of the first: a model must not break it."""
    levels = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 3000, replacement=True, generator=GENERATOR)
    words = torch.eye(3)
    table = torch.cat([words[levels], words[(levels + 1) % 3]], dim=1)
    settings = DiffusionSettings(width=64, blocks=1, steps=600, guidance_weight=0.0, precision="fp32")
    model = ConditionalDiffusion(6, 1, settings=settings, categories=[Category(0, ONE_HOT), Category(3, ONE_HOT)])
    model.fit(table, torch.zeros(3000, dtype=torch.long))
    made = model.sample(torch.zeros(3000, dtype=torch.long))
    first, second = made[:, :3].argmax(1), made[:, 3:].argmax(1)
    assert float((second != (first + 1) % 3).float().mean()) < 0.02
    torch.testing.assert_close(first.bincount(minlength=3) / 3000, torch.tensor([0.6, 0.3, 0.1]), atol=0.05, rtol=0)
    model.save(tmp_path / "model.safetensors")
    again = ConditionalDiffusion.load(tmp_path / "model.safetensors")
    model.restart_sampling((5,))
    again.restart_sampling((5,))
    labels = torch.zeros(20, dtype=torch.long)
    assert torch.equal(model.sample(labels), again.sample(labels))
