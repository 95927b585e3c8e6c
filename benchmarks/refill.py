"""CPU seconds of a refill of 1,000,000 Hopper rows, fit and sampling on one core, extrapolated from a short run.

    python benchmarks/refill.py

Each line is a generator and a guidance weight: gradient steps and rows are timed after a warm-up and multiplied. The
quality of the rows is what benchmarks/transitions.py measures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_experiments.generators.outcomes import OutcomeModel, OutcomeSettings
from cfdg_experiments.generators.split import Split

OBS_DIM = 11
ACTION_DIM = 3
ROWS = 1_000_000
PUBLISHED = DiffusionSettings(  # SynthER's size and training; three blocks of two maps stand for its six of one
    width=1024, blocks=3, learning_rate=3e-4, ema_decay=0.995, sampler="heun-stochastic", sampling_steps=128
)


@dataclass(frozen=True)
class Refill:
    """A generator: its settings, gradient steps of a fit, and those of its regression if it has one."""

    name: str
    settings: DiffusionSettings
    steps: int
    outcome_steps: int = 0
    few_steps: int = 50  # that are timed
    few_rows: int = 2048


REFILLS = (
    Refill("split", DiffusionSettings(width=128), 5600, 2688),
    Refill("joint, 3,000 steps", DiffusionSettings(width=256), 3000),
    Refill("joint, 10,000 steps", DiffusionSettings(width=256), 10_000),
    Refill("SynthER's published setting", PUBLISHED, 100_000, few_steps=4, few_rows=64),
)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def made_up(columns: int, count: int = 4096) -> tuple[Tensor, Tensor]:
    """Rows ``(1, N, D)`` of noise without ends, and two labels: what a step costs does not depend on them."""
    rows = torch.randn(1, count, columns, generator=torch.Generator().manual_seed(0))
    rows[..., -1] = 0
    return rows, (torch.arange(count) % 2)[None]


def measure(refill: Refill, weight: float) -> tuple[float, float]:
    """CPU seconds of the whole fit and of sampling all rows."""
    settings = replace(refill.settings, guidance_weight=weight)
    rows, labels = made_up(2 * OBS_DIM + ACTION_DIM + 2)
    asked = (torch.arange(refill.few_rows) % 2)[None]
    few = refill.few_steps
    if refill.outcome_steps:
        split = Split(OBS_DIM, ACTION_DIM, diffusion=settings)
        pairs = rows[..., : OBS_DIM + ACTION_DIM]
        split.fit(rows, labels, steps=2)
        fit = refill.steps * timed_steps(split.pairs, pairs, labels, few)
        fit += refill.outcome_steps * timed_outcomes(rows, labels, few)
        return fit, ROWS / refill.few_rows * seconds(lambda: split.sample(asked))
    model = ConditionalDiffusion(rows.shape[2], 2, settings=settings)
    model.fit(rows, labels, steps=2)
    fit = refill.steps * timed_steps(model, rows, labels, few)
    return fit, ROWS / refill.few_rows * seconds(lambda: model.sample(asked))


def timed_steps(model: ConditionalDiffusion, rows: Tensor, labels: Tensor, few: int) -> float:
    """CPU seconds of a gradient step of the diffusion."""
    return seconds(lambda: model.fit(rows, labels, steps=few)) / few


def timed_outcomes(rows: Tensor, labels: Tensor, few: int) -> float:
    """CPU seconds of a gradient step of the regression, without the least squares that come first."""
    model = OutcomeModel(OBS_DIM, ACTION_DIM, settings=OutcomeSettings())
    once = seconds(lambda: model.fit(rows, labels, steps=1))
    return (seconds(lambda: model.fit(rows, labels, steps=few + 1)) - once) / few


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", type=float, default=[0.0, 0.2], help="guidance weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| generator | w | fit, CPU s | sampling 1M rows, CPU s | together, hours |")
    print("| -- | -- | -- | -- | -- |")
    for refill in REFILLS:
        for weight in arguments.weights:
            fit, sample = measure(refill, weight)
            print(
                f"| {refill.name} | {weight} | {fit:,.0f} | {sample:,.0f} | {(fit + sample) / 3600:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
