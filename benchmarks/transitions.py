"""Are generated transitions true to the simulator and to the data, and what do they cost on one core?

200,000 recorded Hopper rows under two labels (half medium, half the true replay) train one model; 100,000 guided rows
are drawn, half of each label, and judged by

* the one-step dynamics error: the simulator is set to the generated state and stepped with the generated action;
  squared error of the generated s', standardised per column, mean over columns, median over rows;
* the sliced Wasserstein distance of whole rows to held-out rows of the same label: standardised, 200 projections.

Real rows are judged the same way, for scale.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_rl.datasets import load_dataset
from cfdg_rl.envs import make_env
from cfdg_rl.transitions import from_rows, row_width, to_rows

OBS, ACTION = 11, 3


def recorded_rows(train: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Training rows, their labels, and held-out rows of each label."""
    medium = to_rows(load_dataset("recorded:hopper-medium", rows=200_000).transitions)
    replay = to_rows(load_dataset("recorded:hopper-medium-replay").transitions)
    shuffled = [
        part[torch.randperm(len(part), generator=torch.Generator().manual_seed(0))] for part in (medium, replay)
    ]
    half = train // 2
    labels = torch.arange(2).repeat_interleave(half)
    return torch.cat([part[:half] for part in shuffled]), labels, [part[half:] for part in shuffled]


def dynamics_errors(rows: Tensor, spread: Tensor, count: int) -> np.ndarray:
    """Standardised squared one-step error of the first ``count`` rows; the simulator is Gymnasium's Hopper-v5."""
    env = make_env("Hopper-v5").unwrapped
    env.reset(seed=0)
    data, errors = from_rows(rows[:count].double(), OBS, ACTION), []
    for obs, action, after in zip(data.obs.numpy(), data.action.numpy(), data.next_obs.numpy(), strict=True):
        env.set_state(np.concatenate([[0.0], obs[:5]]), obs[5:])
        truth = env.step(np.clip(action, -1, 1))[0]
        errors.append(np.mean(((after - truth) / spread.numpy()) ** 2))
    return np.array(errors)


def sliced_wasserstein(one: Tensor, other: Tensor, projections: int = 200) -> float:
    """Mean over random directions of the 1-Wasserstein distance of standardised rows, equally many of each."""
    count = min(len(one), len(other))
    mean, std = other.mean(0), other.std(0).clamp(min=1e-6)
    directions = torch.randn(other.shape[1], projections, generator=torch.Generator().manual_seed(1))
    directions /= directions.norm(dim=0)
    sides = [(((rows[:count] - mean) / std) @ directions).sort(0).values for rows in (one, other)]
    return float((sides[0] - sides[1]).abs().mean())


def judge(rows: Tensor, labels: Tensor, held_out: list[Tensor], spread: Tensor, count: int) -> dict[str, float]:
    """Dynamics error over both labels, and the distance of each label's rows to its held-out rows."""
    shuffled = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))]
    errors = dynamics_errors(shuffled, spread, count)
    distances = [sliced_wasserstein(rows[labels == label], held_out[label]) for label in (0, 1)]
    return {
        "dynamics_median": float(np.median(errors)),
        "dynamics_90": float(np.quantile(errors, 0.9)),
        "swd_medium": distances[0],
        "swd_replay": distances[1],
    }


def clean(rows: Tensor) -> Tensor:
    """Terminals decided and actions clipped, as a refresh stores them."""
    data = from_rows(rows, OBS, ACTION)
    return to_rows(replace(data, action=data.action.clamp(-1, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="training rows")
    parser.add_argument("--samples", type=int, default=100_000, help="rows to generate per guidance weight")
    parser.add_argument("--steps", type=int, default=None, help="gradient steps (default: the settings')")
    parser.add_argument(
        "--weights", type=float, nargs="+", default=None, help="guidance weights (default: the settings')"
    )
    parser.add_argument("--judged", type=int, default=2000, help="rows stepped in the simulator")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, labels, held_out = recorded_rows(arguments.rows)
    spread = rows[:, -OBS - 1 : -1].std(0).double()
    columns = row_width(OBS, ACTION)
    model = ConditionalDiffusion(columns, 2, raw_columns=(columns - 1,))
    began = time.process_time(), time.perf_counter()
    model.fit(rows, labels, steps=arguments.steps, progress=True)
    fit = time.process_time() - began[0], time.perf_counter() - began[1]
    half = arguments.samples // 2
    asked = torch.arange(2).repeat_interleave(half)
    real = torch.cat([part[:20_000] for part in held_out]), torch.arange(2).repeat_interleave(20_000)
    others = [part[20_000:40_000] for part in held_out]
    results = {"real rows": judge(*real, others, spread, arguments.judged) | {"fit": 0.0, "sample": 0.0}}
    for weight in arguments.weights or [DiffusionSettings().guidance_weight]:
        start = time.process_time(), time.perf_counter()
        drawn = clean(model.sample(asked, guidance_weight=weight))
        sample = time.process_time() - start[0]
        results[f"w = {weight:g}"] = judge(drawn, asked, held_out, spread, arguments.judged) | {
            "fit": fit[0],
            "sample": sample,
        }
    print(
        f"{arguments.rows:,} Hopper rows, {arguments.samples:,} generated; CPU seconds, one core ({fit[1]:.0f} s wall)"
    )
    names = list(next(iter(results.values())))
    print(f"{'':12}" + "".join(f"{name:>17}" for name in names))
    for name, values in results.items():
        print(f"{name:12}" + "".join(f"{values[key]:17.{5 if values[key] < 1 else 1}f}" for key in names))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
