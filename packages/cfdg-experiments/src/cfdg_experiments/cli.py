"""Command line: ``cfdg table1`` and its like run the studies, ``cfdg ui`` opens their runs in MLflow."""

from __future__ import annotations

import argparse
import functools
import math
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

from cfdg_experiments import policies
from cfdg_experiments.studies.study import STUDIES, Study
from cfdg_rl.command_line import parse

PROFILE_NAMES = "quick (default), reduced, paper, or a YAML file of your own"
ARM_NAMES = (
    "arms, the first one the reference. Generators: cfdg, cfdg-split, cfdg-split-gated, cfdg-split-adaptive, "
    "cfdg-unguided, cfdg-online-only, cfdg-offline-only, union, separate-models, synther, edis, pgr, or MODULE:CLASS "
    "of your own. Without a generator: base, base-share, base-updates. Real rows in place of generated ones: repeat, "
    "jitter. With the simulator: simulated, cfdg-simulated"
)
FILE_HELP = (
    "your own data in D4RL's HDF5 layout, with --env; scores are on D4RL's scale where it has the environment, in "
    "percent of successes for sparse rewards, else raw returns"
)
STORE_HELP = "a folder that all machines see, or an address such as s3://bucket/runs"
COLUMNS = 100  # of the help's paragraphs
CONTINUES = "A finished cell is never run twice, and a killed command continues where it was when you type it again."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    It is 0, or with one sentence 2 (the same would fail again), 75 (try again later), 130 (Ctrl-C), or of ``cfdg cell``
    143 (SIGTERM, after a checkpoint).
    """
    arguments = parse(build_parser(), argv)
    try:
        return int(arguments.command(arguments) or 0)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        sys.stderr.write(f"cfdg: error: {error}\n{getattr(error, 'details', '')}")
        return int(getattr(error, "status", 2))
    except KeyboardInterrupt:
        sys.stderr.write("cfdg: stopped; type the same command again to continue\n")
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(prog="cfdg", description="Classifier-Free Diffusion Generation: experiments.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for study in STUDIES:
        _add_study(commands, study)
    ui = commands.add_parser("ui", help="compare the runs in MLflow's web page, on this machine only")
    ui.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the runs (default: runs)")
    ui.add_argument("--port", type=int, default=5000, help="loopback port (default: 5000)")
    ui.set_defaults(command=_ui)
    _add_store(commands)
    policies.add_commands(commands)
    return parser


def _add_store(commands: argparse._SubParsersAction) -> None:
    """Add the commands on a store."""
    cell = commands.add_parser("cell", help="run one unit of a stored plan, on any machine that sees the store")
    cell.add_argument("run_id", metavar="RUN_ID", help="as 'cfdg status' shows it")
    cell.add_argument("--scratch", type=Path, help="where work is done (default: a temporary folder)")
    cell.set_defaults(command=_cell)
    status = commands.add_parser("status", help="what is done, running, failed and waiting in a store")
    words = "print the run ids of a stage that are not done, one per line, for the jobs of a scheduler"
    status.add_argument("--todo", choices=("pretrain", "cells"), help=words)
    status.set_defaults(command=_status)
    report = commands.add_parser("report", help="tables and pictures of the finished cells of a store, at any time")
    report.add_argument("--out", type=Path, default=Path("runs"), help="where they go (default: runs)")
    report.set_defaults(command=_report)
    for command in (cell, status, report):
        command.add_argument("--store", required=True, metavar="URI", help=STORE_HELP)


def _add_study(commands: argparse._SubParsersAction, study: Study) -> None:
    parser = commands.add_parser(
        study.name,
        help=study.help,
        description=textwrap.fill(study.description, COLUMNS),
        epilog=_epilog(study),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    if study.over:
        add(
            "--over", nargs="+", action="extend", required=True, metavar="KEY=VALUE,...",
            help="a setting, not of datasets, and its values, such as guidance_weight=0,0.5,1; several make a grid",
        )  # fmt: skip
    _add_selection(parser, study)
    add("--jobs", type=int, help="cells at once (default: one per core on a CPU, 1 on a GPU)")
    add("--device", help="auto (default), cpu, cuda or cuda:K")
    add("--out", type=Path, default=Path("runs"), help="where results and the MLflow store go (default: runs)")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change any key of the profile")
    add("--store", metavar="URI", help=f"run in a store: {STORE_HELP}")
    _add_engine(parser)
    add("--dry-run", action="store_true", help="print the runs and an estimate of their time, and stop")
    parser.set_defaults(command=functools.partial(_study, study))


def _add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the units of a store run."""
    add = parser.add_argument
    words = "of --store: processes here (default), a Ray cluster, or the plan alone for jobs of your own"
    add("--engine", choices=("local", "ray", "none"), default="local", help=words)
    add("--address", default="auto", help="of Ray: auto (default), HOST:PORT, or local for one in this process")
    add("--cell-cpus", type=float, default=1.0, metavar="N", help="CPUs of each unit on Ray (default: 1)")
    add("--cell-gpus", type=float, default=0.0, metavar="N", help="GPUs of each unit on Ray, such as 0.2 (default: 0)")
    add("--retries", type=int, default=3, metavar="N", help="passing failures of a unit before it is given up")
    add("--allow-unauthenticated", action="store_true", help="reach a Ray cluster elsewhere without a token")


def _add_selection(parser: argparse.ArgumentParser, study: Study) -> None:
    """Add the options that say what is run."""
    add = parser.add_argument
    add("--profile", default="quick", help=PROFILE_NAMES)
    add("--algorithms", nargs="+", metavar="NAME", help="iql, pex, apl (default: the profile's)")
    add(
        "--datasets", "--only", dest="only", nargs="+", metavar="NAME",
        help="these instead of the profile's; * matches anything (cfdg-datasets list shows the names)",
    )  # fmt: skip
    add("--file", type=Path, help=FILE_HELP)
    add("--env", metavar="ID", help="the Gymnasium environment of --file")
    add("--data", choices=("recorded", "d4rl"), help="take the datasets from this source")
    add("--seeds", nargs="*", type=int, metavar="N", help="seeds, trained side by side as replicas")
    add("--arms", nargs="+", metavar="ARM", help=f"{ARM_NAMES} (default: {' '.join(study.arms)})")


def _epilog(study: Study) -> str:
    """Write the examples in two columns, and what the paper says its figure shows."""
    lines = [(f"  cfdg {study.name} {words}".rstrip(), note) for words, note in study.examples]
    width = max(len(words) for words, _ in lines) + 2
    examples = [f"{words:{width}}{note}".rstrip() for words, note in lines]
    words = f"The paper's {study.paper.name}: “{study.paper.caption}”" if study.paper else ""
    paper = [textwrap.fill(words, COLUMNS), ""] if words else []
    return "\n".join(["examples:", *examples, "", *paper, CONTINUES])


def _study(study: Study, arguments: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its pool; workers set their own number
    from cfdg_experiments.studies.run import dry_run, resolve, run_study

    _check_numbers(arguments)
    plan = resolve(study, arguments)
    if arguments.store is not None and not arguments.dry_run:
        from cfdg_experiments.cluster.commands import Place, RaySettings, run_stored

        given = (arguments.address, arguments.cell_cpus, arguments.cell_gpus, arguments.allow_unauthenticated)
        where = (arguments.store, arguments.out, arguments.engine, arguments.jobs, arguments.retries)
        return run_stored(plan, arguments.over if study.over else (), Place(*where, ray=RaySettings(*given)))
    if arguments.engine != "local":
        raise ValueError(f"--engine is {arguments.engine}, and there is no --store, expected a shared store")
    run = dry_run if arguments.dry_run else run_study
    run(plan, arguments.out, arguments.jobs)
    return 0


def _check_numbers(arguments: argparse.Namespace) -> None:
    """Refuse numbers of options that no run can have."""
    least = {"jobs": 1, "retries": 0, "cell_cpus": 0, "cell_gpus": 0}
    for name, bound in least.items():
        value = getattr(arguments, name)
        if value is not None and not bound <= value < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, expected at least {bound}")


def _cell(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from cfdg_experiments.cluster.unit import run_unit, set_threads

    set_threads()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())  # clusters send it some seconds before SIGKILL
    sys.stdout.write(run_unit(arguments.run_id, arguments.store, arguments.scratch, ended.is_set) + "\n")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from cfdg_experiments.cluster.commands import print_status, unfinished

    if arguments.todo is None:
        print_status(arguments.store)
    else:
        sys.stdout.writelines(f"{run_id}\n" for run_id in unfinished(arguments.store, arguments.todo))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from cfdg_experiments.cluster.commands import report_stored

    report_stored(arguments.store, arguments.out)
    return 0


def _ui(arguments: argparse.Namespace) -> int:
    from cfdg_experiments.tracking.server import serve_ui

    return serve_ui(arguments.out, arguments.port)
