"""Memory of a refresh and cost of checkpoints at the paper's sizes.

    python benchmarks/memory.py

The refresh fits R = 5 replicas of a small network on 400,000 shared offline rows and 100,000 online rows of each
replica, 42 columns wide, and generates few rows, so that what is measured is the handling of the data. The data are
those rows in single precision; one row in 200, at random, is an end, so that the split model trains its classifier of
ends too. Checkpoints of 0.3 GB of weights and of rings that grow are written at the pace of a
run, with a shortest pause of a second instead of a minute.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_experiments.generators.ends import EndSettings
from cfdg_experiments.generators.fitted import Fitted, Schedule
from cfdg_experiments.generators.gate import Gate, GateSettings, HoldingOut
from cfdg_experiments.generators.outcomes import OutcomeSettings
from cfdg_experiments.generators.split import Split
from cfdg_experiments.storage.ring_files import RingFiles
from cfdg_experiments.storage.saver import Saver
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.finetune import FinetunePlan, refresh
from cfdg_rl.mixing import Pools
from cfdg_rl.streams import Streams

SMALL = DiffusionSettings(width=16, blocks=1, sampling_steps=4, batch_size=256)
OBS = 17
ACTIONS = 6
COLUMNS = 2 * OBS + ACTIONS + 2
MEGABYTE = 1 << 20
END_SHARE = 1 / 200
KINDS = ("joint", "split", "gated")  # whole rows, in two parts, and in two parts judged by held-out rows


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--offline", type=int, default=400_000)
    parser.add_argument("--online", type=int, default=100_000)
    parser.add_argument("--replicas", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--weights", type=int, default=75, help="in a checkpoint, in millions")
    arguments = parser.parse_args()
    for kind in arguments.models:
        print_memory(kind, arguments.offline, arguments.online, arguments.replicas)
    if arguments.checkpoints:
        print_checkpoints(arguments.checkpoints, arguments.weights)


def print_memory(kind: str, offline: int, online: int, replicas: int) -> None:
    """Print the peak of resident memory during a refresh, above what there was before it."""
    plan = FinetunePlan(steps=online, refresh_every=online // 2, warm_up=0, synthetic_rows=2000)
    refill(kind, pools(500, 100, replicas), plan)  # loads libraries and their work space
    full = pools(offline, online, replicas)
    data = 4 * COLUMNS * (offline + replicas * online)
    begin_peak()
    before = resident("VmRSS")
    refill(kind, full, plan)
    grown = resident("VmHWM") - before
    sizes = f"{kind}: data {data / MEGABYTE:.0f} MiB, refresh {grown / MEGABYTE:.0f} MiB more"
    print(f"{sizes}: the peak is {1 + grown / data:.2f} x the data")


def refill(kind: str, full: Pools, plan: FinetunePlan) -> None:
    """Refresh the synthetic buffers, and judge them where the kind says so."""
    replicas = len(full.online.view())
    model = generator(kind, replicas)
    if kind != "gated":
        refresh(model, full, plan)
        return
    held = HoldingOut(model, GateSettings().held_out_every, plan.margin, Streams(range(replicas), "held out"))
    refresh(held, full, plan)
    Gate(OBS, ACTIONS, Streams(range(replicas), "gate"))(full, held.failed, held.complete)


def generator(kind: str, replicas: int) -> Fitted:
    """Make a small model with two labels, of whole rows or split in diffusion and regression."""
    schedule = Schedule(first_steps=20, steps=20)
    if kind == "joint":
        return Fitted(ConditionalDiffusion(COLUMNS, 2, seeds=range(replicas), settings=SMALL), schedule)
    outcomes = OutcomeSettings(width=16, ends=EndSettings(width=16, steps=20))
    return Fitted(Split(OBS, ACTIONS, seeds=range(replicas), diffusion=SMALL, outcomes=outcomes), schedule)


def pools(offline: int, online: int, replicas: int) -> Pools:
    """Make full buffers of random rows."""
    numbers = torch.Generator().manual_seed(0)
    ring = Ring(replicas, online, COLUMNS)
    for start in range(0, online, 1000):
        ring.add(random_rows((replicas, min(1000, online - start)), numbers))
    synthetic = [Ring(replicas, rows, COLUMNS) for rows in (400, 1600)]
    rows = random_rows((offline,), numbers)
    return Pools(FixedRows(rows), ring, *synthetic, obs_dim=OBS, action_dim=ACTIONS)


def random_rows(shape: tuple[int, ...], numbers: torch.Generator) -> torch.Tensor:
    """Draw rows ``(*shape, D)`` of uniform numbers, whose last column flags one end in 200."""
    rows = torch.rand(*shape, COLUMNS, generator=numbers)
    rows[..., -1] = (rows[..., -1] < END_SHARE).float()
    return rows


def begin_peak() -> None:
    """Forget the peak so far (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident(name: str) -> int:
    """Read the present or the largest resident memory in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def print_checkpoints(checkpoints: int, millions: int) -> None:
    """Print the share of time that checkpoints take, from the end of the first one to the end of the last."""
    weights = torch.rand(millions * 1_000_000)
    ring = Ring(5, 200_000, COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        files = RingFiles(Path(folder) / "rings")
        saver = Saver(Path(folder) / "state.safetensors", 1.0)
        spent: list[float] = []
        ends: list[float] = []
        while len(spent) < checkpoints:
            time.sleep(0.02)
            ring.add(torch.rand(5, 20, COLUMNS))
            if saver.due():
                saver.save(lambda: {"weights": weights, "rings": files.save({"online": ring})}, files.prune)
                spent.append(saver.took)
                ends.append(saver.ended)
    share = sum(spent[1:]) / (ends[-1] - ends[0])
    size = f"{weights.nbytes / MEGABYTE:.0f} MiB and {len(ring):,} rows of 5 replicas"
    print(f"{checkpoints} checkpoints of {size}, {max(spent):.2f} s at most: {share:.1%} of the time")


if __name__ == "__main__":
    main()
