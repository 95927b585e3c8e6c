"""Command line: ``cfdg table1`` runs the paper's Table 1, ``cfdg ui`` opens its runs in MLflow."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cfdg_experiments import policies

PROFILE_NAMES = "quick (default), reduced, paper, or a YAML file of your own"
EXAMPLES = """examples:
  cfdg table1                                        the quick profile: minutes on a laptop, no network
  cfdg table1 --datasets hopper-random walker2d-*    other datasets with the same profile
  cfdg table1 --algorithms pex --datasets pointmaze-*
  cfdg table1 --datasets minari:mujoco/hopper/medium-v0
  cfdg table1 --file mine.hdf5 --env Pendulum-v1     your own data and environment
  cfdg table1 --profile reduced --seeds 0 1 --jobs 2
  cfdg table1 --set finetune.steps=20000 diffusion.guidance_weight=0.5
  cfdg table1 --profile paper --dry-run              what the paper's table would run, and how long here
  cfdg table1 --profile paper --data recorded        the same without D4RL's files

A finished cell is never run twice, and a killed command continues where it was when you type it again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for bad input in one sentence, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.command(arguments) or 0)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        sys.stderr.write(f"cfdg: error: {error}\n{getattr(error, 'details', '')}")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("cfdg: stopped; type the same command again to continue\n")
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(prog="cfdg", description="Classifier-Free Diffusion Generation: experiments.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_table1(commands)
    ui = commands.add_parser("ui", help="compare the runs in MLflow's web page, on this machine only")
    ui.add_argument("--out", type=Path, default=Path("runs"), help="the folder of table1 (default: runs)")
    ui.add_argument("--port", type=int, default=5000, help="loopback port (default: 5000)")
    ui.set_defaults(command=_ui)
    policies.add_commands(commands)
    return parser


def _add_table1(commands: argparse._SubParsersAction) -> None:
    table1 = commands.add_parser(
        "table1",
        help="run Table 1: base algorithm against the same with CFDG",
        description="Pre-train offline, fine-tune online with and without CFDG, and compare.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = table1.add_argument
    add("--profile", default="quick", help=PROFILE_NAMES)
    add("--algorithms", nargs="+", metavar="NAME", help="iql, pex, apl (default: the profile's, all three)")
    add(
        "--datasets", "--only", dest="only", nargs="+", metavar="NAME",
        help="these instead of the profile's; * matches anything (cfdg-datasets list shows the names)",
    )  # fmt: skip
    add("--file", type=Path, help="your own data in D4RL's HDF5 layout, with --env; scores are raw returns")
    add("--env", metavar="ID", help="the Gymnasium environment of --file")
    add("--data", choices=("recorded", "d4rl"), help="take the datasets from this source")
    add("--seeds", nargs="*", type=int, metavar="N", help="seeds, trained side by side as replicas")
    add("--arms", nargs="+", metavar="ARM", help="base, cfdg, cfdg-unguided, cfdg-online-only")
    add("--jobs", type=int, help="cells at once (default: one per core on a CPU, 1 on a GPU)")
    add("--device", help="auto (default), cpu, cuda or cuda:K")
    add("--out", type=Path, default=Path("runs"), help="where results and the MLflow store go (default: runs)")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change any key of the profile")
    add("--dry-run", action="store_true", help="print the runs and an estimate of their time, and stop")
    table1.set_defaults(command=_table1)


def _table1(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its pool; workers set their own number
    from cfdg_experiments.table import dry_run, resolve, run_table

    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"--jobs is {arguments.jobs}, expected at least 1")
    profile = resolve(arguments)
    if arguments.dry_run:
        dry_run(profile, arguments.out, arguments.jobs)
    else:
        run_table(profile, arguments.out, arguments.jobs)
    return 0


def _ui(arguments: argparse.Namespace) -> int:
    from cfdg_experiments.server import serve_ui

    return serve_ui(arguments.out, arguments.port)
