"""Truth of generated transitions, at equal CPU seconds on one core: the joint model and what is generated in two parts.

Recorded rows of a robot under two labels (half medium, half medium-replay) train each model; guided rows are drawn,
half of each label, and judged by

* the one-step error: the simulator is set to the generated state and stepped with the generated action; squared error
  of the generated s', standardised per column, mean over columns;
* the error of the reward, absolute, median over rows;
* ends: recall and precision of the generated flags, over rows with a healthy s, against the simulator's;
* the share of states from which no step is taken, because the robot has fallen already;
* the sliced Wasserstein distance of (s, a) to held-out rows of the same label: standardised, 200 projections.

Rows with a velocity at the limit of 10, where Hopper and Walker2d clip the observation, have no known outcome and are
left out of the errors and of the ends. Held-out real rows are judged the same way, for scale.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_experiments.generators.deltas import Deltas
from cfdg_experiments.generators.outcomes import OutcomeSettings
from cfdg_experiments.generators.split import Split
from cfdg_rl.datasets import load_dataset
from cfdg_rl.envs import make_env
from cfdg_rl.transitions import Transitions, from_rows, row_width, to_rows

LEVELS = ("medium", "medium-replay")
MODELS = ("joint", "deltas", "split")
VELOCITY_LIMIT = 10.0


@dataclass(frozen=True)
class Robot:
    """A robot whose observation is its state but for the first coordinate.

    Attributes:
        env_id: Gymnasium's name.
        obs_dim: S.
        action_dim: A.
        positions: columns of the observation that are positions; the others are velocities.
        clips: whether observed velocities are clipped.
    """

    env_id: str
    obs_dim: int
    action_dim: int
    positions: int
    clips: bool


ROBOTS = {
    "hopper": Robot("Hopper-v5", 11, 3, 5, clips=True),
    "halfcheetah": Robot("HalfCheetah-v5", 17, 6, 8, clips=False),
    "walker2d": Robot("Walker2d-v5", 17, 6, 8, clips=True),
}


@dataclass(frozen=True)
class Rows:
    """Rows of a robot.

    Attributes:
        train: ``(N, D)``, half of each label.
        labels: ``(N,)`` 0 or 1.
        held_out: rows of each label that are not trained on.
    """

    train: Tensor
    labels: Tensor
    held_out: tuple[Tensor, Tensor]


def recorded_rows(name: str, count: int) -> Rows:
    """Shuffle recorded rows of both levels and take half of ``count`` of each for training."""
    parts = []
    for level in LEVELS:
        rows = to_rows(load_dataset(f"recorded:{name}-{level}", rows=count).transitions)
        parts.append(rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))])
    half = count // 2
    labels = torch.arange(2).repeat_interleave(half)
    return Rows(torch.cat([part[:half] for part in parts]), labels, (parts[0][half:], parts[1][half:]))


@dataclass(frozen=True)
class Truth:
    """Outcomes of N rows in the simulator; ``healthy (N,)`` tells states from which a step can be taken."""

    reward: Tensor
    next_obs: Tensor
    terminal: Tensor
    healthy: Tensor


def step_from(robot: Robot, data: Transitions) -> Truth:
    """Set Gymnasium's own simulator to each state and step it with the action."""
    env: Any = make_env(robot.env_id).unwrapped
    env.reset(seed=0)
    found = []
    for obs, action in zip(data.obs.double().numpy(), data.action.double().numpy(), strict=True):
        env.set_state(np.concatenate([[0.0], obs[: robot.positions]]), obs[robot.positions :])
        healthy = getattr(env, "is_healthy", True)
        next_obs, reward, terminal, *_ = env.step(action)
        found.append((float(reward), next_obs, bool(terminal), bool(healthy)))
    reward, next_obs, terminal, healthy = zip(*found, strict=True)
    return Truth(torch.tensor(reward), torch.tensor(np.stack(next_obs)), torch.tensor(terminal), torch.tensor(healthy))


def sliced_wasserstein(one: Tensor, other: Tensor, projections: int = 200) -> float:
    """Mean over random directions of the 1-Wasserstein distance of standardised rows, equally many of each."""
    count = min(len(one), len(other))
    mean = other.mean(0)
    std = other.std(0).clamp(min=1e-6)
    directions = torch.randn(other.shape[1], projections, generator=torch.Generator().manual_seed(1))
    directions /= directions.norm(dim=0)
    sides = [(((rows[:count] - mean) / std) @ directions).sort(0).values for rows in (one, other)]
    return float((sides[0] - sides[1]).abs().mean())


def judge(robot: Robot, rows: Tensor, labels: Tensor, data: Rows) -> dict[str, float]:
    """Errors, ends and impossible states over both labels, and the distance of each label's (s, a)."""
    made = from_rows(rows, robot.obs_dim, robot.action_dim)
    made = replace(made, action=made.action.clamp(-1, 1))
    truth = step_from(robot, made)
    clipped = (made.obs[:, robot.positions :].abs() >= VELOCITY_LIMIT).any(1) & robot.clips
    known = truth.healthy & ~clipped
    first = labels[known] == 0
    spread = data.train[:, -robot.obs_dim - 1 : -1].std(0)
    errors = ((made.next_obs - truth.next_obs) / spread).square().mean(1)[known]
    marked = (made.terminal > 0.5) & known
    ends = truth.terminal & known
    hits = float((marked & ends).sum())
    pairs = torch.cat([made.obs, made.action], dim=1)
    real = [part[:, : pairs.shape[1]] for part in data.held_out]
    return {
        "median": float(errors.median()),
        "mean": float(errors.mean()),
        "mean medium": float(errors[first].mean()),
        "mean replay": float(errors[~first].mean()),
        "90 %": float(errors.quantile(0.9)),
        "reward": float((made.reward - truth.reward).abs()[known].median()),
        "ends %": 100 * float(ends.sum()) / float(known.sum()),
        "recall": hits / max(1.0, float(ends.sum())),
        "precision": hits / max(1.0, float(marked.sum())),
        "impossible %": 100 * float((~truth.healthy).double().mean()),
        "swd medium": sliced_wasserstein(pairs[labels == 0], real[0]),
        "swd replay": sliced_wasserstein(pairs[labels == 1], real[1]),
    }


def joint_model(
    robot: Robot, settings: DiffusionSettings, seed: int = 0, device: str | torch.device = "cpu"
) -> ConditionalDiffusion:
    """Make the joint model of rows, its last column, the terminal flag, un-normalised."""
    columns = row_width(robot.obs_dim, robot.action_dim)
    raw = (columns - 1,)
    return ConditionalDiffusion(columns, 2, seeds=(seed,), settings=settings, raw_columns=raw, device=device)


def judged(robot: Robot, data: Rows, sample: Callable[[Tensor], Tensor], count: int) -> dict[str, float]:
    """Draw rows, half of each label, and judge them; ``sample`` is the CPU seconds of the drawing."""
    asked = torch.arange(2).repeat_interleave(count // 2)
    began = time.process_time()
    rows = sample(asked[None])[0].cpu().clone()
    seconds = time.process_time() - began
    return judge(robot, rows, asked, data) | {"sample": seconds}


@dataclass
class Bench:
    """One robot's models, trained and judged one after another.

    Attributes:
        robot: the robot.
        data: its rows.
        arguments: the command line.
    """

    robot: Robot
    data: Rows
    arguments: argparse.Namespace

    def real(self) -> dict[str, float]:
        """Judge held-out real rows."""
        half = min(self.arguments.samples // 2, *(len(part) // 2 for part in self.data.held_out))
        rows = torch.cat([part[:half] for part in self.data.held_out])
        rest = (self.data.held_out[0][half:], self.data.held_out[1][half:])
        return judge(self.robot, rows, torch.arange(2).repeat_interleave(half), replace(self.data, held_out=rest))

    def results(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Train and judge the models of the command line, one after another."""
        yield "real rows", self.real() | {"sample": 0.0, "fit": 0.0}
        for name in self.arguments.models:
            yield from {"joint": self.joint, "deltas": self.deltas, "split": self.split}[name]().items()

    def joint(self) -> dict[str, dict[str, float]]:
        """Judge the paper's model, guided everywhere and on (s, a) alone."""
        model = self.diffusion()
        fit = self.fit(model, self.arguments.steps)
        some = partial(model.sample, guided_columns=range(self.robot.obs_dim + self.robot.action_dim))
        narrow = self.diffusion(self.narrow)
        narrow.load_state_dict(model.state_dict())
        return {
            "joint": self.judged(model.sample) | {"fit": fit},
            "joint, (s, a) guided": self.judged(some) | {"fit": fit},
            "joint, narrow noise": self.judged(narrow.sample) | {"fit": fit},
        }

    def deltas(self) -> dict[str, dict[str, float]]:
        """Judge the paper's model of s' - s in narrower columns."""
        model = Deltas(self.diffusion(), self.robot.obs_dim, self.robot.action_dim)
        fit = self.fit(model, self.arguments.steps)
        return {"joint, s' - s": self.judged(model.sample) | {"fit": fit}}

    def split(self) -> dict[str, dict[str, float]]:
        """Judge the generator in two parts."""
        model = self.in_two_parts()
        fit = self.fit(model, self.arguments.split_steps)
        narrow = self.in_two_parts(self.narrow)
        narrow.load_state_dict(model.state_dict())
        return {
            "split": self.judged(model.sample) | {"fit": fit},
            "split, narrow noise": self.judged(narrow.sample) | {"fit": fit},
        }

    @property
    def narrow(self) -> dict[str, float]:
        """Noise levels between which rows are drawn, in place of EDM's 0.002 and 80."""
        low, high = self.arguments.noise
        return {"sigma_min": low, "sigma_max": high}

    def in_two_parts(self, noise: Mapping[str, float] = MappingProxyType({})) -> Split:
        """Make the model in two parts, with noise levels of its own."""
        settings = DiffusionSettings(guidance_weight=self.arguments.weight, width=self.arguments.split_width)
        outcomes = OutcomeSettings(steps_share=self.arguments.outcome_share)
        dims = (self.robot.obs_dim, self.robot.action_dim)
        seeds = (self.arguments.seed,)
        return Split(*dims, seeds=seeds, diffusion=replace(settings, **noise), outcomes=outcomes)

    def diffusion(self, noise: Mapping[str, float] = MappingProxyType({})) -> ConditionalDiffusion:
        """Make the joint model, with noise levels of its own."""
        settings = replace(DiffusionSettings(guidance_weight=self.arguments.weight), **noise)
        return joint_model(self.robot, settings, self.arguments.seed)

    def fit(self, model: ConditionalDiffusion | Deltas | Split, steps: int) -> float:
        """Train for so many steps; CPU seconds."""
        began = time.process_time()
        model.fit(self.data.train[None], self.data.labels[None], steps=steps)
        return time.process_time() - began

    def judged(self, sample: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Draw rows, half of each label, and judge them."""
        return judged(self.robot, self.data, sample, self.arguments.samples)


def print_row(name: str, model: str, values: dict[str, float]) -> None:
    """Print a row of a robot's Markdown table, and its head before the first one."""
    if model == "real rows":
        print(f"\n| {name} | " + " | ".join(values) + " |")
        print("|---" * (len(values) + 1) + "|")
    sharp = ("median", "mean", "mean medium", "mean replay", "90 %")
    cells = [f"{value:.5f}" if key in sharp else f"{value:.3g}" for key, value in values.items()]
    print(f"| {model} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Run the comparison of the command line's robots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", nargs="+", choices=ROBOTS, default=list(ROBOTS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rows", type=int, default=100_000, help="training rows, half of each label")
    parser.add_argument("--samples", type=int, default=20_000, help="rows to generate and to step in the simulator")
    parser.add_argument("--steps", type=int, default=3000, help="gradient steps of the joint models")
    parser.add_argument("--split-steps", type=int, default=5600, help="gradient steps of the split model's diffusion")
    parser.add_argument("--split-width", type=int, default=128, help="width of the split model's diffusion")
    parser.add_argument("--outcome-share", type=float, default=0.48, help="regression steps per step of its diffusion")
    parser.add_argument("--weight", type=float, default=0.2, help="guidance weight w")
    parser.add_argument(
        "--noise", type=float, nargs=2, default=(0.02, 20.0), metavar=("LOW", "HIGH"), help="levels of narrow noise"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the models; the rows are the same")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.robots:
        bench = Bench(ROBOTS[name], recorded_rows(name, arguments.rows), arguments)
        for model, values in bench.results():
            results.setdefault(name, {})[model] = values
            print_row(name, model, values)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
