"""The check of generators: it passes good ones and names the fault of each broken one."""

import warnings

import pytest
import torch

from cfdg_rl import OFFLINE, ONLINE, check_generator


class Resampled:
    """A generator that draws the rows of a label again."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = torch.Generator().manual_seed(seed)

    def fit(self, rows, labels):
        self.rows = rows.clone()
        self.labels = labels.clone()

    def sample(self, labels):
        out = torch.empty(*labels.shape, self.rows.shape[-1])
        for r in range(len(labels)):
            for label in (OFFLINE, ONLINE):
                own = self.rows[r][self.labels[r] == label]
                out[r, labels[r] == label] = own[
                    torch.randint(len(own), (int((labels[r] == label).sum()),), generator=self.rng)
                ]
        return out


class Changed(Resampled):
    """A resampler whose rows pass through a function."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def sample(self, labels):
        return self.change(super().sample(labels))


def silently(generator, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_generator(generator, **settings)


@pytest.mark.parametrize("settings", [{}, {"obs_dim": 1, "action_dim": 1, "replicas": 1, "rows": 8}, {"replicas": 3}])
def test_a_good_generator_passes_in_silence(settings):
    silently(Resampled(), **settings)
    silently(Resampled, **settings)  # a class is a factory
    silently(lambda: Resampled(7), **settings)


def with_nan(rows):
    rows[0, 0, 0] = float("nan")
    return rows


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows[:, 1:], r"shape of sampled rows is \(2, 63, 10\), expected \(2, 64, 10\)"),
        (lambda rows: rows[..., :-1], r"shape of sampled rows is \(2, 64, 9\), expected \(2, 64, 10\)"),
        (lambda rows: rows[0], r"shape of sampled rows is \(64, 10\), expected \(2, 64, 10\)"),
        (lambda rows: rows.double(), r"dtype of sampled rows is torch.float64, expected torch.float32"),
        (lambda rows: rows.requires_grad_(), r"requires_grad of sampled rows is True, expected False"),
        (with_nan, r"1 of 128 sampled rows are not finite, expected finite numbers"),
        (lambda rows: rows + 0 * torch.rand(1), r"sample drew from torch's global random state"),
        (lambda rows: rows.squeeze(1), r"shape of sampled rows is \(2, 10\), expected \(2, 1, 10\)"),
    ],
)
def test_wrong_rows_are_named(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_generator(Changed(change))


def test_other_devices_are_named():
    with pytest.raises(ValueError, match="device of sampled rows is meta, expected cpu"):
        check_generator(Changed(lambda rows: rows.to("meta")))


def test_rows_that_are_no_tensor_are_named():
    with pytest.raises(TypeError, match=r"sample returned ndarray, expected a torch\.Tensor"):
        check_generator(Changed(lambda rows: rows.numpy()))


@pytest.mark.parametrize("thing", [object(), object, 3, None])
def test_things_without_the_methods_are_named(thing):
    with pytest.raises(TypeError, match=r"has no method 'fit', expected fit\(rows, labels\) and sample\(labels\)"):
        check_generator(thing)


class Draws(Resampled):
    def fit(self, rows, labels):
        super().fit(rows, labels)
        torch.rand(1)


class Sorts(Resampled):
    def fit(self, rows, labels):
        super().fit(rows, labels)
        rows[..., 0] = rows[..., 0].sort(dim=1).values


class Flips(Resampled):
    def sample(self, labels):
        rows = super().sample(labels)
        labels[:] = 1 - labels
        return rows


class Once(Resampled):
    def fit(self, rows, labels):
        if hasattr(self, "rows"):
            raise RuntimeError("is fitted")
        super().fit(rows, labels)


class Fixed(Resampled):
    """A generator that copes with the number of rows of the first fit only."""

    def fit(self, rows, labels):
        self.mean = torch.zeros(256) if not hasattr(self, "mean") else self.mean
        self.mean += rows[0, :, 0]
        super().fit(rows, labels)


class Pairs(Resampled):
    """A generator that needs both labels."""

    def sample(self, labels):
        if len(labels.unique()) < 2:
            raise IndexError("no such label")
        return super().sample(labels)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (Draws, "fit drew from torch's global random state, expected draws from a torch.Generator"),
        (Sorts, "fit changed its argument rows in place, expected no change"),
        (Flips, "sample changed its argument labels in place, expected no change"),
        (
            Once,
            r"fit raised RuntimeError \(is fitted\) for rows \(2, 320, 10\) and labels \(2, 320\), expected",
        ),
        (Fixed, r"fit raised RuntimeError .* for rows \(2, 320, 10\) and labels"),
        (Pairs, r"sample raised IndexError \(no such label\) for labels \(2, 1\), expected no error"),
    ],
)
def test_wrong_calls_are_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_generator(make())


def test_factories_whose_generators_differ_are_refused():
    seeds = iter(range(9))
    with pytest.raises(ValueError, match=r"two generators of one factory differ by up to [\d.]+, expected equal rows"):
        check_generator(lambda: Resampled(next(seeds)))


def test_ignored_labels_are_a_warning():
    class Deaf(Resampled):
        def sample(self, labels):
            return super().sample(torch.full_like(labels, ONLINE))

    with pytest.warns(UserWarning, match=r"of label 0 in replica \d is [\d.]+ away from that of the data") as found:
        check_generator(Deaf())
    assert len(found) == 2  # replicas; label 1 is obeyed


def test_the_check_itself_leaves_the_global_random_state():
    before = torch.get_rng_state()
    check_generator(Resampled())
    assert torch.equal(torch.get_rng_state(), before)
