"""Speed of training and sampling with cfdg-diffusion, on one core of this machine or on a GPU.

Training is given in gradient steps per second (one step serves all R replicas), sampling in rows per second over all
replicas. Times are CPU seconds of one thread on the CPU, so that a busy machine matters little, and wall seconds on
another device. The rows are random: speed does not depend on what they mean.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from itertools import product

import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings

SAMPLERS = {"heun": 18, "dpm": 20, "heun-stochastic": 32}


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    results = []
    for replicas, precision in product(arguments.replicas, arguments.precision):
        results += measure(arguments, replicas, precision)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"torch": torch.__version__, "settings": vars(arguments), "results": results}, file, indent=2)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 5], help="models trained side by side")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--columns", type=int, default=27, help="columns of a row; 27 is a Hopper transition")
    parser.add_argument("--width", type=int, default=DiffusionSettings.width, help="width of the network")
    parser.add_argument("--blocks", type=int, default=DiffusionSettings.blocks, help="residual blocks, two layers each")
    parser.add_argument(
        "--batch-size", type=int, default=DiffusionSettings.batch_size, help="rows per replica and step"
    )
    parser.add_argument("--steps", type=int, default=300, help="gradient steps to time")
    parser.add_argument("--rows", type=int, default=4096, help="rows per replica to sample")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, replicas: int, precision: str) -> list[dict[str, object]]:
    """One line for training and one for each sampler, with and without guidance."""
    lines = []

    def note(what: str, per_second: float, unit: str) -> None:
        print(f"R = {replicas}  {precision}  {what:32s} {per_second:10,.0f} {unit}/s", flush=True)
        lines.append({"replicas": replicas, "precision": precision, "what": what, "per_second": per_second})

    rows, labels = torch.randn(10_000, arguments.columns), torch.arange(10_000) % 2
    model = build(arguments, replicas, precision, "dpm")
    model.fit(rows, labels, steps=20)
    seconds = timed(arguments.device, lambda: model.fit(rows, labels, steps=arguments.steps))
    note("fit", arguments.steps / seconds, "steps")
    state = model.state_dict()
    for (sampler, steps), weight in product(SAMPLERS.items(), (0.0, 1.0)):
        model = build(arguments, replicas, precision, sampler)
        model.load_state_dict(state)
        asked = torch.arange(arguments.rows) % 2
        seconds = timed(arguments.device, lambda: model.sample(asked, guidance_weight=weight, steps=steps))  # noqa: B023
        note(f"{sampler} {steps}{' guided' if weight else ''}", replicas * arguments.rows / seconds, "rows")
    return lines


def build(arguments: argparse.Namespace, replicas: int, precision: str, sampler: str) -> ConditionalDiffusion:
    settings = DiffusionSettings(
        width=arguments.width,
        blocks=arguments.blocks,
        batch_size=arguments.batch_size,
        precision=precision,
        sampler=sampler,
    )
    return ConditionalDiffusion(arguments.columns, 2, seeds=range(replicas), settings=settings, device=arguments.device)


def timed(device: str, work: Callable[[], object]) -> float:
    """Seconds of CPU time on the CPU, of wall time elsewhere."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
