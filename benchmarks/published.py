"""How good Hopper's rows are at SynthER's published setting, and after how many seconds of its fit.

    python benchmarks/published.py --out published
    python benchmarks/published.py --out published --device cuda

The rows and the judge are those of transitions.py, the setting is that of refill.py. On the way to its 100,000 steps
the fit is judged by rows of our usual sampler (20 network calls), at the end by rows of SynthER's own as well (128
steps of stochastic Heun). A fit takes hours of a core: a killed one goes on where its last state was saved.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings, storage
from cfdg_experiments.cells.results import write_text
from refill import PUBLISHED
from transitions import ROBOTS, Rows, joint_model, judged, recorded_rows

ROBOT = ROBOTS["hopper"]
STEPS = 100_000
USUAL = DiffusionSettings()
SAMPLERS = {
    "usual sampler": (USUAL.sampler, USUAL.sampling_steps),
    "own sampler": (PUBLISHED.sampler, PUBLISHED.sampling_steps),
}


@dataclass
class Fit:
    """The fit of a model, which goes on where it was saved.

    Attributes:
        model: at the published setting.
        data: rows of two labels.
        path: of its state.
        save_every: gradient steps.
        done: gradient steps so far.
        seconds: that these took, of the CPU or with a GPU of the clock.
    """

    model: ConditionalDiffusion
    data: Rows
    path: Path
    save_every: int
    done: int = 0
    seconds: float = 0.0

    def resume(self) -> None:
        """Go on where the file tells, if there is one."""
        if self.path.exists():
            tree = storage.load(self.path)
            self.model.load_state_dict(tree["state"])
            self.done, self.seconds = tree["done"], tree["seconds"]

    def advance(self, step: int, total: int) -> None:
        """Train up to a step of a fit of ``total`` steps, and save.

        Raises:
            ValueError: if the fit is beyond that step already.
        """
        if step < self.done:
            raise ValueError(f"the fit in {self.path} has {self.done:,} steps already, expected at most {step:,}")
        if step == self.done:
            return
        began, before = self._clock(), self.seconds
        for done, _ in self.model.training(self.data.train, self.data.labels, steps=total, start=self.done):
            if done == step or done % self.save_every == 0:
                self.done, self.seconds = done, before + self._clock() - began
                storage.save(self.path, {"state": self.model.state_dict(), "done": done, "seconds": self.seconds})
            if done == step:
                return

    def _clock(self) -> float:
        if self.model.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.model.device)
        return time.perf_counter()


def scored(fit: Fit, sampler: str, weight: float, count: int) -> dict[str, float]:
    """Judge rows of a sampler and a guidance weight, and note the seconds of the fit."""
    name, steps = SAMPLERS[sampler]
    settings = replace(fit.model.settings, sampler=name, sampling_steps=steps, guidance_weight=weight)
    model = joint_model(ROBOT, settings, device=fit.model.device)
    model.load_state_dict(fit.model.state_dict())
    return judged(ROBOT, fit.data, model.sample, count) | {"fit": fit.seconds}


def lines(milestones: list[int], weights: list[float]) -> Iterator[tuple[int, str, float]]:
    """Yield steps, samplers and weights in the order in which they are judged."""
    for step in milestones:
        samplers = SAMPLERS if step == milestones[-1] else ("usual sampler",)
        yield from ((step, sampler, weight) for sampler in samplers for weight in weights)


def main() -> None:
    """Fit, judge what is not judged yet, and print a Markdown table."""
    arguments = parse()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    scores = arguments.out / "scores.json"
    found = json.loads(scores.read_text()) if scores.exists() else {}
    model = joint_model(ROBOT, replace(PUBLISHED, width=arguments.width), device=arguments.device)
    fit = Fit(model, recorded_rows("hopper", arguments.rows), arguments.out / "fit.safetensors", arguments.save_every)
    fit.resume()
    for step, sampler, weight in lines(sorted(arguments.milestones), arguments.weights):
        told = f"{step:,} steps, {sampler}, w = {weight}"
        if told not in found:
            fit.advance(step, arguments.steps)
            found[told] = scored(fit, sampler, weight, arguments.samples)
            write_text(scores, json.dumps(found, indent=1))
    print("\n".join(table(found)))


def table(found: dict[str, dict[str, float]]) -> list[str]:
    """Make the lines of a Markdown table of what was judged."""
    columns = ("median", "mean", "reward", "recall", "precision", "impossible %", "swd medium", "swd replay", "fit")
    rows = [["", *columns], ["--"] * (1 + len(columns))]
    rows += [[told, *(f"{values[column]:.3g}" for column in columns)] for told, values in found.items()]
    return ["| " + " | ".join(row) + " |" for row in rows]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("published"), help="folder of the fit and of the scores")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the fit")
    parser.add_argument("--milestones", type=int, nargs="+", default=[1_000, 3_000, 10_000, 30_000, STEPS])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.2], help="guidance weights")
    parser.add_argument("--rows", type=int, default=100_000, help="training rows, half of each label")
    parser.add_argument("--samples", type=int, default=20_000, help="rows that are judged")
    parser.add_argument("--width", type=int, default=PUBLISHED.width, help="another one is not SynthER's")
    parser.add_argument("--save-every", type=int, default=500, help="gradient steps between saved states")
    arguments = parser.parse_args()
    if max(arguments.milestones) > arguments.steps:
        parser.error(f"a milestone is {max(arguments.milestones):,}, expected at most --steps, {arguments.steps:,}")
    return arguments


if __name__ == "__main__":
    main()
