"""Learning curves of small runs on recorded data, each against a bar.

    python benchmarks/learning.py                 all cases, one after the other
    python benchmarks/learning.py pex-maze        one of them

Every case prints its budget, the score of its data and of each evaluation, and the seconds it took, and ends with
PASS or FAIL against its bar. Scores: mean over seeds; 100 is an expert, or a success in every episode of a maze.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.results import CellResult, Evaluation
from cfdg_experiments.cells.run import run_cell
from cfdg_experiments.profiles.files import load_profile, parse_overrides
from cfdg_experiments.profiles.profile import profile_for


@dataclass(frozen=True)
class Case:
    """One claim: what is run, and what has to come out."""

    claim: str
    dataset: str
    algorithm: str
    reached: Callable[[CellResult], bool]
    settings: Mapping[str, Any] = field(default_factory=dict)


COMMON = {
    "pretrain.steps": 4_000,
    "pretrain.batch_size": 128,
    "finetune.steps": 5_000,
    "finetune.warm_up": 1_000,
    "finetune.batch_size": 128,
    "finetune.refresh_every": 2_000,
    "apl.pretrain.steps": 5_000,
    "apl.pretrain.batch_size": 128,
    "apl.finetune.round_steps": 1_000,
    "apl.finetune.updates_per_round": 1_000,
    "apl.replay.gate": 1_000,
    "evaluation.every": 1_000,
    "evaluation.episodes": 10,
}
LOCOMOTION = {"pretrain.steps": 6_000, "finetune.steps": 1, "finetune.warm_up": 0, "finetune.refresh_every": 1}
MAZE = {
    "pretrain.steps": 3_500,
    "pretrain.batch_size": 256,
    "finetune.steps": 10_000,
    "finetune.refresh_every": 10_000,
    "finetune.batch_size": 256,
    "maze.iql.log_std_range": [-5.0, 2.0],
    "maze.evaluation.every": 2_000,
    "maze.evaluation.episodes": 50,
}
TD3_BC = {
    "apl.finetune.steps": 15_000,
    "apl.finetune.refresh_every": 15_000,
    "evaluation.every": 3_000,
}
CONSERVATIVE = TD3_BC | {
    "apl.learner": "conservative",
    "apl.conservative.hidden": [64, 64],
    "apl.conservative.sampled_actions": 4,
    "apl.conservative.learning_rate": 1e-3,
    "apl.conservative.policy_learning_rate": 1e-3,
}
CASES = {
    "iql-offline": Case(
        "offline IQL on hopper-medium reaches the behaviour policy's score",
        "recorded:hopper-medium",
        "iql",
        lambda result: result.offline.mean() >= result.behaviour_score,
        LOCOMOTION,
    ),
    "iql-maze": Case(
        "IQL raises a sparse point maze to 90 % success online",
        "recorded:pointmaze-medium-play",
        "iql",
        lambda result: result.final.mean() >= 90 > result.offline.mean(),
        MAZE,
    ),
    "pex-maze": Case(
        "PEX raises a sparse point maze to 90 % success online",
        "recorded:pointmaze-medium-play",
        "pex",
        lambda result: result.final.mean() >= 90 > result.offline.mean(),
        MAZE,
    ),
    "apl-td3-bc": Case(
        "APL with TD3+BC raises halfcheetah-medium above its data online for every seed",
        "recorded:halfcheetah-medium",
        "apl",
        lambda result: result.final.min() > max(result.offline.max(), result.behaviour_score),
        TD3_BC,
    ),
    "apl-conservative": Case(
        "APL with five conservative critics improves halfcheetah-medium online by 10 points for every seed",
        "recorded:halfcheetah-medium",
        "apl",
        lambda result: (result.final - result.offline).min() >= 10,
        CONSERVATIVE,
    ),
}


def main() -> int:
    """Run the cases and print their curves; 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change any key of the profile")
    parser.add_argument("--json", type=Path, help="also write the curves to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}, expected some of {', '.join(CASES)}")
    outcomes = {name: _run(name, CASES[name], arguments) for name in arguments.cases or CASES}
    if arguments.json:
        arguments.json.write_text(json.dumps(outcomes, indent=1))
    return 0 if all(outcome["passed"] for outcome in outcomes.values()) else 1


def _run(name: str, case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    changes = {"seeds": arguments.seeds, **COMMON, **case.settings, **parse_overrides(arguments.set)}
    own = profile_for(load_profile("quick", changes), case.dataset, case.algorithm)
    cell = Cell(case.dataset, case.algorithm, "base", own)
    print(f"{name}: {case.claim}")
    print(
        f"  {own.pretrain.steps:,} offline updates, {own.finetune.steps:,} environment steps, seeds {arguments.seeds}"
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = run_cell(cell, Workspace(Path(folder)), lambda event: _print(event.evaluation))
    seconds = time.perf_counter() - began
    passed = bool(case.reached(result))
    print(f"  data {result.behaviour_score:.1f}, before {result.offline.mean():.1f}, after {result.final.mean():.1f}")
    print(f"  {seconds:.0f} s: {'PASS' if passed else 'FAIL'}", flush=True)
    return {
        "passed": passed,
        "seconds": seconds,
        "data": result.behaviour_score,
        "steps": result.steps.tolist(),
        "scores": result.scores.tolist(),
    }


def _print(evaluation: Evaluation | None) -> None:
    if evaluation:
        scores = evaluation.scores
        each = " ".join(f"{score:6.1f}" for score in scores)
        print(f"  {evaluation.step:>7,}  {scores.mean():6.1f}   {each}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
