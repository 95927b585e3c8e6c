"""Check of a generator against the needs of the fine-tuning loop, as Gymnasium's ``check_env`` for environments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from cfdg_rl.mixing import OFFLINE, ONLINE
from cfdg_rl.protocols import Generator
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, to_rows

_ASKED = 64  # rows per replica and call of sample
_GAP = 3.0  # observations are standard normal around -_GAP offline and _GAP online


def check_generator(
    make_or_generator: Generator | Callable[[], Generator],
    *,
    obs_dim: int = 3,
    action_dim: int = 2,
    replicas: int = 2,
    rows: int = 256,
    device: str | torch.device = "cpu",
) -> None:
    """Fit and sample a generator on small invented transitions, and check that :func:`cfdg_rl.finetune` can use it.

    Offline and online rows form two clusters. A sample whose labels seem to be ignored only gives a ``UserWarning``,
    because a generator may need more rows or steps.

    Args:
        make_or_generator: a new generator for R replicas and D = 2 ``obs_dim`` + ``action_dim`` + 2 columns; or a
            function without arguments that makes one, always with the same seeds: its rows have to be the same too.
        obs_dim: S, columns of an observation.
        action_dim: A, columns of an action.
        replicas: R.
        rows: N, rows per replica of the first fit, at least 4; the second fit has a quarter more.
        device: device of rows and labels.

    Raises:
        TypeError: if a method is missing, or ``sample`` does not return a tensor.
        ValueError: if a call fails, changes its arguments or torch's global random state, or returns rows of another
            shape, dtype or device, with gradients or not finite; or if two generators of one factory differ.
    """
    dims = (obs_dim, action_dim)
    generator = _made(make_or_generator)
    data, labels = _examples(replicas, rows, dims, device)
    probe = _Probe(generator, data.shape[-1])
    first = probe.run(data, labels)
    _warn_of_ignored_labels(data, labels, first, obs_dim)
    probe.run(*_examples(replicas, rows + rows // 4, dims, device))
    if generator is not make_or_generator:
        again = _Probe(_made(make_or_generator), data.shape[-1]).run(data, labels)
        if not torch.equal(first, again):
            largest = (first - again).abs().max().item()
            raise ValueError(f"two generators of one factory differ by up to {largest:.3g}, expected equal rows")


@dataclass(frozen=True)
class _Probe:
    """A generator whose calls are checked.

    Attributes:
        generator: any generator.
        columns: D.
    """

    generator: Generator
    columns: int

    def run(self, data: Tensor, labels: Tensor) -> Tensor:
        """Fit, sample all kinds of labels, and return the rows ``(R, n, D)`` of alternating labels."""
        with _guarded("fit", rows=data, labels=labels):
            self.generator.fit(data, labels)
        mixed = self.sample(_alternating(labels))
        for asked in (labels[:, :1], labels[:, -1:]):
            self.sample(asked.clone())
            self.sample(asked.expand(-1, _ASKED).clone())
        return mixed

    def sample(self, labels: Tensor) -> Tensor:
        """Draw rows ``(R, n, D)`` for labels ``(R, n)`` and check them."""
        with _guarded("sample", labels=labels):
            drawn = self.generator.sample(labels)
        if not isinstance(drawn, Tensor):
            raise TypeError(f"sample returned {type(drawn).__name__}, expected a torch.Tensor")
        expected = (*labels.shape, self.columns)
        for what, found, wanted in (
            ("shape", tuple(drawn.shape), expected),
            ("dtype", drawn.dtype, torch.float32),
            ("device", drawn.device, labels.device),
            ("requires_grad", drawn.requires_grad, False),
        ):
            if found != wanted:
                raise ValueError(f"{what} of sampled rows is {found}, expected {wanted}")
        bad = int((~drawn.isfinite()).any(-1).sum())
        if bad:
            raise ValueError(f"{bad} of {labels.numel()} sampled rows are not finite, expected finite numbers")
        return drawn


@contextmanager
def _guarded(call: str, **arguments: Tensor) -> Iterator[None]:
    """Turn an error into a sentence, and refuse changes of the arguments and of torch's global random state."""
    copies = {name: argument.clone() for name, argument in arguments.items()}
    state = torch.get_rng_state()
    try:
        yield
    except Exception as error:
        given = " and ".join(f"{name} {tuple(argument.shape)}" for name, argument in arguments.items())
        raise ValueError(f"{call} raised {type(error).__name__} ({error}) for {given}, expected no error") from error
    for name, copy in copies.items():
        if not torch.equal(arguments[name], copy):
            raise ValueError(f"{call} changed its argument {name} in place, expected no change")
    if not torch.equal(torch.get_rng_state(), state):
        raise ValueError(f"{call} drew from torch's global random state, expected draws from a torch.Generator")


def _made(make_or_generator: Generator | Callable[[], Generator]) -> Generator:
    """Return the generator, or what the factory (or class) makes; refuse an object without the two methods."""
    methods = ("fit", "sample")
    is_factory = isinstance(make_or_generator, type) or not any(hasattr(make_or_generator, name) for name in methods)
    made = make_or_generator() if is_factory and callable(make_or_generator) else make_or_generator
    for name in methods:
        if not callable(getattr(made, name, None)):
            expected = "expected fit(rows, labels) and sample(labels)"
            raise TypeError(f"{type(made).__name__} has no method {name!r}, {expected}")
    return cast("Generator", made)


def _examples(replicas: int, rows: int, dims: tuple[int, int], device: str | torch.device) -> tuple[Tensor, Tensor]:
    """Invent transitions as rows ``(R, N, D)`` and labels ``(R, N)``, offline first; the same at every call."""
    noise = Streams(range(replicas), "check generator", device)
    label = torch.where(torch.arange(rows, device=device) < rows // 2, OFFLINE, ONLINE)
    side = torch.where(label == ONLINE, 1.0, -1.0)
    obs = _GAP * side[:, None] + noise.normal(rows, dims[0])
    data = Transitions(
        obs=obs,
        action=2 * noise.uniform(rows, dims[1]) - 1,
        reward=side + 0.1 * noise.normal(rows),
        next_obs=obs + 0.1 * noise.normal(rows, dims[0]),
        terminal=(noise.uniform(rows) < 0.1).float(),
    )
    return to_rows(data), label.expand(replicas, -1)


def _alternating(labels: Tensor) -> Tensor:
    """Make labels ``(R, n)`` that alternate between offline and online."""
    return torch.arange(_ASKED, device=labels.device).remainder(2).expand(len(labels), -1).clone()


def _warn_of_ignored_labels(data: Tensor, labels: Tensor, drawn: Tensor, obs_dim: int) -> None:
    """Compare mean observations of sampled and given rows, per replica and label."""
    asked = _alternating(labels)
    means = {label: data[:, labels[0] == label, :obs_dim].mean(1) for label in (OFFLINE, ONLINE)}
    allowed = 0.5 * (means[OFFLINE] - means[ONLINE]).norm(dim=-1)
    for label, mean in means.items():
        distance = (drawn[:, asked[0] == label, :obs_dim].mean(1) - mean).norm(dim=-1)
        for replica in torch.nonzero(distance > allowed).flatten().tolist():
            warnings.warn(
                f"the mean observation of sampled rows of label {label} in replica {replica} is "
                f"{distance[replica]:.3g} away from that of the data, expected at most {allowed[replica]:.3g}",
                UserWarning,
                stacklevel=3,
            )
