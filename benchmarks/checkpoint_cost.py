"""Cost of checkpoints within a real cell: CPU seconds in writing them, of those of the whole cell.

    python benchmarks/checkpoint_cost.py
    python benchmarks/checkpoint_cost.py --seconds 60

Without ``--seconds`` nothing but the rule that a checkpoint is followed by twenty times its duration of work limits how
often they are written, which is the most that they can cost.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from cfdg_experiments.cells import run
from cfdg_experiments.cells.cell import Workspace
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.storage import saver
from cfdg_experiments.studies.plan import make_plan
from cfdg_experiments.studies.study import TABLE_1


def main() -> None:
    """Run one cell and print the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.0, help="least wall time between two checkpoints")
    parser.add_argument("--steps", type=int, default=2000, help="of fine-tuning")
    parser.add_argument("--rows", type=int, default=20_000, help="of the data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        "seeds": [0, 1, 2, 3, 4], "algorithms": ["iql"], "arms": ["cfdg"], "data.rows": arguments.rows,
        "data.datasets": ["recorded:hopper-medium"], "pretrain.steps": arguments.steps // 4,
        "inspection.enabled": False,
        "finetune.steps": arguments.steps, "finetune.refresh_every": arguments.steps // 2, "finetune.warm_up": 50,
        "refresh.first_steps": 200, "refresh.steps": 100, "evaluation.episodes": 1,
    }  # fmt: skip
    cell = make_plan(TABLE_1, load_profile("quick", settings)).cells()[0]
    run.SAVE_SECONDS = arguments.seconds
    clock = SavingClock()
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        run.run_cell(cell, Workspace(Path(folder)), lambda event: None)
        total = time.process_time() - began
    share = f"{clock.seconds:.1f} of {total:.1f} CPU s in {clock.count} checkpoints, {clock.size / 1e6:.1f} MB the last"
    print(f"{share}: {100 * clock.seconds / total:.1f} %")


class SavingClock:
    """CPU seconds in writing checkpoints, from its making on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.count = 0
        self.size = 0
        self.save = saver.Saver.save
        clock = self

        def timed(
            self: saver.Saver, state: Callable[[], Mapping[str, Any]], then: Callable[[], None] = lambda: None
        ) -> None:
            began = time.process_time()
            clock.save(self, state, then)
            clock.seconds += time.process_time() - began
            clock.count += 1
            clock.size = self.path.stat().st_size

        saver.Saver.save = timed


if __name__ == "__main__":
    main()
