"""Regression that says what follows a state and an action: reward, next state and whether the episode ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cfdg_diffusion import Streams
from cfdg_diffusion.edm.batches import BalancedRows
from cfdg_diffusion.edm.learner import Learner, cosine
from cfdg_diffusion.edm.losses import DivergenceError
from cfdg_diffusion.edm.normaliser import Normaliser, measure
from cfdg_diffusion.edm.parts import LabelledParts, Part
from cfdg_diffusion.edm.replay import replayed
from cfdg_experiments.generators.end_states import EndStates
from cfdg_experiments.generators.ends import EndRule, EndSettings
from cfdg_experiments.generators.least_squares import least_squares, least_squares_of_parts
from cfdg_experiments.generators.perceptron import Perceptron
from cfdg_experiments.generators.rows import as_one
from cfdg_rl.ranges import BELOW_ONE, COUNT, POSITIVE, SWITCH, WIDTH, check_ranges
from cfdg_rl.transitions import row_width

_POSSIBLE = 1e-3  # states that look like ends are impossible where at most this share of real states does


@dataclass(frozen=True)
class OutcomeSettings:
    """Size and training of the regression; "measured" is on recorded halfcheetah rows in 20 CPU seconds.

    Raises:
        ValueError: if a size is below 1, or a rate or share not positive.
    """

    width: int = 256
    layers: int = 3  # measured against 2 and 4
    steps_share: float = 1.0  # gradient steps for each one of the diffusion beside it
    batch_size: int = 256
    learning_rate: float = 5e-3  # falls to 0 along a cosine; measured against 1e-3 and 3e-3
    gradient_clip: float = 1.0
    ema_decay: float = 0.9  # per ten steps; measured: 0.99 lags behind in a fit of thousands of steps
    waves: bool = True  # read sines and cosines of states too, for angles; measured: a quarter off the mean error
    ends: EndSettings = field(default_factory=EndSettings)

    def __post_init__(self) -> None:
        check_ranges(self, width=WIDTH, layers=COUNT, batch_size=COUNT, steps_share=POSITIVE, learning_rate=POSITIVE)
        check_ranges(self, gradient_clip=POSITIVE, ema_decay=BELOW_ONE, waves=SWITCH)


class OutcomeModel:
    """Predicts (r, s', d) from (s, a) for R replicas.

    Least squares on (s, a) come first, and a network learns what they leave, standardised: that contains s' - s as a
    special case and is never wider. The end of an episode is decided from the predicted s'.

    Args:
        obs_dim: S.
        action_dim: A.
        seeds: one per replica.
        settings: see :class:`OutcomeSettings`.
        device: where everything lives.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        seeds: tuple[int, ...] = (0,),
        settings: OutcomeSettings = OutcomeSettings(),
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings = settings
        self.ends = EndRule(obs_dim, seeds, settings.ends, device)
        reads = obs_dim + action_dim + 2 * obs_dim * settings.waves
        self.network = Perceptron(reads, 1 + obs_dim, settings.width, settings.layers)
        self._dims = (obs_dim, action_dim)
        self._seeds = seeds
        self._device = torch.device(device)
        self._training = Streams(seeds, "outcomes training", device)
        self.reset()

    def reset(self) -> None:
        """Forget what was learnt: fresh weights from the seeds; the streams of training run on."""
        settings = self.settings
        weights = self.network.initial(Streams(self._seeds, "outcomes weights", self._device))
        self._learner = Learner(weights, settings.gradient_clip, settings.ema_decay)
        replicas = len(self._seeds)
        reads = self.network.inputs
        writes = self.network.outputs
        blank = torch.zeros(replicas, 1, sum(self._dims), device=self._device)
        self._facts = {
            "read_mean": blank,
            "read_std": blank + 1,
            "slope": torch.zeros(replicas, reads, writes, device=self._device),
            "mean": torch.zeros(replicas, 1, writes, device=self._device),
            "std": torch.ones(replicas, 1, writes, device=self._device),
            "constant": torch.full((replicas, 1, writes), math.nan, device=self._device),  # NaN: the column varies
            "rewards": torch.full((replicas, 2), math.nan, device=self._device),
            "checks_states": torch.zeros(replicas, 1, dtype=torch.bool, device=self._device),
        }
        self.ends.reset()

    def fit(self, rows: Tensor, labels: Tensor, *, steps: int, on_step: Callable[[], None] | None = None) -> Tensor:
        """Train on rows ``(R, N, D)`` with labels ``(R, N)``; batches hold equally many rows of every label present.

        A further call starts from the present weights. ``on_step`` is called after each step, and may end the fit by an
        exception.

        Returns:
            ``(R,)`` the mean squared error of the last tenth of the steps, in units of what least squares leave.

        Raises:
            ValueError: if rows have another width than D = 2 S + A + 2.
            DivergenceError: if training diverges.
        """
        if rows.shape[-1] != row_width(*self._dims):
            raise ValueError(f"rows have {rows.shape[-1]} columns, expected {row_width(*self._dims)}")
        rows = rows.to(self._device, torch.float32)
        data = BalancedRows(rows, labels.to(self._device), int(labels.max()) + 1)
        self._measure(rows, data.shares)
        losses = self._train(data, steps, on_step or bool)
        self._fit_ends([rows])
        return losses

    def fit_parts(self, parts: Sequence[Part], *, steps: int) -> Tensor:
        """Train as :meth:`fit` does on parts of one label each, which are neither joined nor copied.

        Sums are added in another order than those of joined rows.
        """
        labels = 1 + max(part.label for part in parts)
        data = LabelledParts(parts, row_width(*self._dims), labels, len(self._seeds))
        self._measure_parts(data)
        losses = self._train(data, steps, bool)
        self._fit_ends([as_one([(part.rows, part.label)]) for part in data.parts])
        return losses

    @torch.inference_mode()
    def complete(self, pairs: Tensor) -> Tensor:
        """Rows ``(R, n, D)`` of states and actions ``(R, n, S + A)``; actions lie in [-1, 1]."""
        predicted = self._linear(pairs) + self._facts["std"] * self.network(self._learner.average, self._read(pairs))
        predicted = torch.where(self._facts["constant"].isnan(), predicted, self._facts["constant"])
        reward, after = predicted.split([1, self._dims[0]], dim=-1)
        ended = self.ends(after)
        of_end = self._facts["rewards"].gather(1, ended.long())[..., None]
        reward = torch.where(of_end.isnan(), reward, of_end)
        return torch.cat([pairs, reward, after, ended[..., None].to(pairs)], dim=-1)

    def possible(self, obs: Tensor) -> Tensor:
        """States ``(R, n, S)`` from which a step can be taken, ``(R, n)``: none that look like ends.

        Where real states do look like ends all are possible: the trajectories of a maze's data go on after the goal.
        """
        return ~(self.ends(obs) & self._facts["checks_states"])

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as nested dictionaries of tensors."""
        return {
            "learner": self._learner.state(),
            "facts": {name: tensor.clone() for name, tensor in self._facts.items()},
            "ends": self.ends.state_dict(),
            "training": self._training.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was called."""
        self._learner.restore(state["learner"])
        self._facts["constant"] = torch.full_like(self._facts["mean"], math.nan)  # states of version 0.3 lack it
        self._facts |= {name: tensor.to(self._device) for name, tensor in state["facts"].items()}
        self.ends.load_state_dict(state["ends"])
        self._training.restore(state["training"])

    def _read(self, pairs: Tensor, replica: int | slice = slice(None)) -> Tensor:
        """Make the inputs ``(R, n, I)`` of the network of states and actions."""
        standard = (pairs - self._facts["read_mean"][replica]) / self._facts["read_std"][replica]
        if not self.settings.waves:
            return standard
        obs = pairs[..., : self._dims[0]]
        return torch.cat([standard, obs.sin(), obs.cos()], dim=-1)

    def _linear(self, pairs: Tensor) -> Tensor:
        return torch.baddbmm(self._facts["mean"], self._read(pairs), self._facts["slope"])

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """States and actions ``(..., S + A)``, rewards and next states ``(..., 1 + S)``."""
        return rows[..., : sum(self._dims)], rows[..., sum(self._dims) : -1]

    def _measure(self, rows: Tensor, shares: Tensor) -> None:
        """Scale of the inputs, least squares, and the scale of what they leave, all weighted by ``shares``."""
        self._scale(measure(rows[..., : sum(self._dims)], shares, ()))
        for replica in range(len(self._seeds)):
            pairs, wanted = self._split(rows[replica % len(rows)])
            slope, mean, std = least_squares(self._read(pairs, replica), wanted, shares[replica % len(shares)])
            self._facts["slope"][replica] = slope
            self._facts["mean"][replica] = mean
            self._facts["std"][replica] = std
        self._keep_constants(measure(rows[..., sum(self._dims) : -1], shares, ()))

    def _measure_parts(self, data: LabelledParts) -> None:
        """Measure as :meth:`_measure` does, over parts."""
        found = data.measure(())
        width = sum(self._dims)
        self._scale(Normaliser(found.mean[:, :width], found.std[:, :width]))
        slope, mean, std = least_squares_of_parts(data, self._examples)
        self._facts |= {"slope": slope, "mean": mean, "std": std}
        self._keep_constants(Normaliser(found.mean[:, width:-1], found.std[:, width:-1]))

    def _keep_constants(self, found: Normaliser) -> None:
        """Note the outcomes that never vary: a prediction beside their one value would be out of the data's range."""
        constant = (found.std == 0)[:, None].expand_as(self._facts["mean"])
        value = found.mean[:, None].expand_as(self._facts["mean"])
        self._facts["constant"] = torch.where(constant, value, math.nan)
        self._facts["mean"] = torch.where(constant, value, self._facts["mean"])
        self._facts["slope"] = torch.where(constant, 0.0, self._facts["slope"])
        self._facts["std"] = torch.where(constant, 1.0, self._facts["std"])  # what is left is rounding

    def _examples(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        pairs, wanted = self._split(rows)
        return self._read(pairs), wanted

    def _scale(self, found: Normaliser) -> None:
        """Take over the scale of the inputs, which replicas may share."""
        replicas = len(self._seeds)
        self._facts["read_mean"] = found.mean[:, None].expand(replicas, -1, -1).clone()
        spread = torch.where(found.std > 0, found.std, 1.0)
        self._facts["read_std"] = spread[:, None].expand(replicas, -1, -1).clone()

    def _train(self, data: BalancedRows | LabelledParts, steps: int, on_step: Callable[[], object]) -> Tensor:
        total = torch.zeros(len(self._seeds), device=self._device)
        last = math.ceil(steps / 10)
        compute = replayed(lambda: self._gradient(data), self._training)
        for step in range(steps):
            losses = self._learner.follow(compute, cosine(step, steps) * self.settings.learning_rate)
            total += losses * (step >= steps - last)
            on_step()
        if not bool(total.isfinite().all()):
            raise DivergenceError("the loss of the outcomes is no longer finite, expected finite numbers")
        return total / last

    def _gradient(self, data: BalancedRows | LabelledParts) -> tuple[Tensor, Tensor]:
        """Compute the losses ``(R,)`` of a batch and their gradient ``(R, P)``."""
        rows, _ = data.draw(self._training, self.settings.batch_size)
        pairs, wanted = self._split(rows)
        target = (wanted - self._linear(pairs)) / self._facts["std"]
        losses = (self.network(self._learner.weights, self._read(pairs)) - target).square().mean((1, 2))
        return losses.detach(), self._learner.gradient(losses)

    def _fit_ends(self, parts: Sequence[Tensor]) -> None:
        """The rule of ends; whether it holds for the states before a step; rewards that follow from an end alone.

        Args:
            parts: rows ``(R or 1, n, D)``.
        """
        obs_dim = self._dims[0]
        flags = [rows[..., -1] > 0.5 for rows in parts]
        after = [rows[..., -1 - obs_dim : -1] for rows in parts]
        self.ends.fit_parts(list(zip(after, flags, strict=True)))
        before = EndStates(
            [(rows[..., :obs_dim], own) for rows, own in zip(parts, flags, strict=True)], len(self._seeds)
        )
        looks_ended = sum(self.ends(states).sum(1, keepdim=True) for states, _, _ in before.chunks())
        self._facts["checks_states"] = torch.as_tensor(looks_ended) / len(before) <= _POSSIBLE
        for replica in range(len(self._seeds)):
            rewards = torch.cat([rows[replica % len(rows), :, sum(self._dims)] for rows in parts])
            ended = torch.cat([own[replica % len(own)] for own in flags])
            self._facts["rewards"][replica] = rewards_of_ends(rewards, ended)


def rewards_of_ends(rewards: Tensor, ended: Tensor) -> Tensor:
    """The reward ``(2,)`` without and with an end where each has a single one, as in a maze; else NaN.

    Args:
        rewards: ``(N,)``.
        ended: ``(N,)`` booleans.
    """
    parts = [rewards[~ended], rewards[ended]]
    if all(len(part) and bool((part == part[0]).all()) for part in parts):
        return torch.stack([part[0] for part in parts])
    return rewards.new_full((2,), math.nan)
