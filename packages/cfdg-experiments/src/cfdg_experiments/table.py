"""Engine of all studies, from command line to report: resolve the profile, prepare the data, run the cells, report."""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cfdg_experiments.ablation import parse_grid
from cfdg_experiments.cells import Cell, Event, Workspace, cell_key, finished_cells
from cfdg_experiments.display import Display, unfinished
from cfdg_experiments.grid import Task, run_grid
from cfdg_experiments.header import count
from cfdg_experiments.locks import locked
from cfdg_experiments.plan import Plan, make_plan, refresh_steps
from cfdg_experiments.product import Product, Written
from cfdg_experiments.profile import Profile
from cfdg_experiments.profile_files import PROFILES, dump_profile, load_profile, parse_overrides
from cfdg_experiments.report import to_rich, write_report
from cfdg_experiments.results import CellKey, CellResult, write_text
from cfdg_experiments.run import run_cell
from cfdg_experiments.selection import choose_datasets, own_file
from cfdg_experiments.store import check_tracking
from cfdg_experiments.study import Study
from cfdg_experiments.text_table import rich_table
from cfdg_experiments.tracking import Tracker
from cfdg_rl.datasets.dataset import DataWarning
from cfdg_rl.datasets.load import Dataset, load_dataset


def resolve(study: Study, arguments: argparse.Namespace) -> Plan:
    """Load the profile with everything that study and command line change, and plan the cells.

    Raises:
        ValueError: if a name, key, type or value is wrong, or an arm has no such product.
    """
    profile = _profile(study, arguments)
    datasets = own_file(arguments.file, arguments.env, arguments.only, arguments.data) or choose_datasets(
        profile.data.datasets, arguments.only, arguments.data
    )
    profile = replace(profile, data=replace(profile.data, datasets=tuple(datasets)))
    plan = make_plan(study, profile, parse_grid(arguments.over, profile) if study.over else ())
    if study.product:
        study.product().check(plan.cells())
    return plan


def _profile(study: Study, arguments: argparse.Namespace) -> Profile:
    """Load the profile; a shipped one has the study's settings, a file only its arms, where it names none."""
    overrides: dict[str, Any] = {}
    if arguments.profile in PROFILES:
        overrides |= {"arms": list(study.arms), **study.settings.get(arguments.profile, {})}
    overrides |= parse_overrides(arguments.set)
    for key in ("seeds", "arms", "algorithms", "device"):
        if getattr(arguments, key) is not None:
            overrides[key] = getattr(arguments, key)
    return load_profile(arguments.profile, overrides, {"arms": list(study.arms)})


def dry_run(plan: Plan, out: Path, jobs: int | None) -> None:
    """Print every run of the study, those that are finished already, and an estimate from a short measurement."""
    from cfdg_experiments.estimate import estimate_seconds

    space = workspace(out)
    cells = plan.cells()
    jobs = jobs or default_jobs(plan.profile, len(cells))
    done = _done(plan, space)
    waiting = [cell for cell in cells if cell not in done]
    fresh = {space.pretrained(cell): cell for cell in waiting}
    torch.set_num_threads(1)
    seconds = estimate_seconds(waiting, [cell for path, cell in fresh.items() if not path.exists()]) / jobs
    console = Console()
    console.print(_plan_table(plan, done))
    console.print(
        f"{len(cells) * len(plan.profile.seeds)} seed runs in {len(cells)} groups, {len(waiting)} groups to run; "
        f"about {duration(seconds)} with {jobs} jobs on this machine's CPU, measured just now; "
        f"data preparation not counted. Nothing was run."
    )


def _plan_table(plan: Plan, done: Collection[Cell]) -> Table:
    """List the cells with their steps, and if they are finished."""
    titles = ("dataset", "algorithm", "arm", "offline updates", "online steps", "state")
    lines = []
    for cell, keys in plan.keys().items():
        steps = (count(cell.profile.pretrain.steps), count(cell.profile.finetune.steps))
        lines += [[*key, *steps, "finished" if cell in done else "to run"] for key in keys]
    title = f"{plan.study.name}, profile {plan.profile.name}: {len(plan.profile.seeds)} seeds per cell, as replicas"
    return rich_table(titles, lines, title=title, words=3)


def run_study(plan: Plan, out: Path, jobs: int | None) -> None:
    """Run the missing cells, showing progress, and leave tables, pictures and MLflow runs behind."""
    space = workspace(out)
    check_writable(out)
    check_tracking(out)
    check_device(plan.profile)
    try:
        with locked(space.lock(plan.name), f"{plan.name} in {out}", wait=False):
            space.sweep(plan.cells())
            _run_study(plan, out, space, jobs)
    finally:
        space.remove_empty()


def _run_study(plan: Plan, out: Path, space: Workspace, jobs: int | None) -> None:
    """Run what is missing, in a folder that is writable and this command's own."""
    console = Console()
    jobs = jobs or default_jobs(plan.profile, len(plan.cells()))
    _prepare_data(plan.cells(), space, jobs, console)
    folder = out / plan.name
    write_text(folder / "settings.yaml", dump_profile(plan.profile))
    ids = {key: cell_key(cell) for key, cell in plan.places.items()}
    tracker = Tracker.open(out, plan.name, plan.header, plan.settings, cell_ids=ids)
    with tracker, Display(console, plan.header, len(plan.places), plan.keys()) as display:
        _run_missing(plan, space, jobs, display, tracker)
        results = sorted(display.results, key=lambda result: list(plan.places).index(result.key))  # not as they ended
        tracker.report(write_product_report(plan, results, space, folder))
    console.print(to_rich(results, plan.header))
    console.print(f"\nTables, pictures and scores: {folder}", highlight=False, soft_wrap=True)
    console.print(tracker.how_to_look(), highlight=False, soft_wrap=True)


def write_product_report(plan: Plan, results: Sequence[CellResult], space: Workspace, folder: Path) -> list[Path]:
    """Write the report with the study's pictures and product; returns the files."""
    product = _product(plan)
    made = product.write(plan.places, plan.header, space, folder) if product else Written([], [])
    steps = refresh_steps(plan.profile) if not plan.axes else None  # a grid may vary them
    pictures = plan.study.pictures
    files = write_report(results, plan.header, folder, steps, pictures=pictures, sections=made.sections)
    return [*made.files, *files]


def _task(plan: Plan) -> Task:
    product = _product(plan)
    return product.task if product else run_cell


def _product(plan: Plan) -> Product | None:
    return plan.study.product() if plan.study.product else None


def _done(plan: Plan, space: Workspace) -> dict[Cell, CellResult]:
    """Read the results of the cells that need no run."""
    product = _product(plan)
    found = finished_cells(plan.cells(), space)
    return {cell: result for cell, result in found.items() if product is None or product.is_done(cell, space)}


@dataclass(frozen=True)
class _Listeners:
    """Display and tracker, told of cells under the names of their columns."""

    keys: Mapping[Cell, Sequence[CellKey]]
    display: Display
    tracker: Tracker

    def notify(self, event: Event) -> None:
        """Tell of progress."""
        self.display.event(event)
        if event.evaluation:
            for key in self.keys[event.cell]:
                self.tracker.evaluation(key, event.evaluation)

    def finished(self, cell: Cell, result: CellResult) -> None:
        """Tell of a result."""
        for key in self.keys[cell]:
            placed = replace(result, arm=key.arm)
            self.display.finished(cell, placed)
            self.tracker.finished(placed)


def _run_missing(plan: Plan, space: Workspace, jobs: int, display: Display, tracker: Tracker) -> None:
    """Hand the finished cells to display and tracker, and run the others with both listening."""
    listeners = _Listeners(plan.keys(), display, tracker)
    done = _done(plan, space)
    if done:
        display.note(unfinished(len(plan.places), sum(len(listeners.keys[cell]) for cell in done)))
    for cell, result in done.items():
        listeners.finished(cell, result)
    if missing := [cell for cell in listeners.keys if cell not in done]:
        run_grid(missing, space, jobs, listeners.notify, listeners.finished, task=_task(plan))


def _prepare_data(cells: Sequence[Cell], space: Workspace, jobs: int, console: Console) -> None:
    """Make or check every dataset before anything else is written."""
    wanted: Mapping[Any, Cell] = {(cell.dataset, cell.profile.rows, cell.profile.data_seed): cell for cell in cells}
    for name, rows, seed in wanted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # its notes are printed below
            data = load_dataset(name, rows=rows, seed=seed, cache=space.cache, progress=True, jobs=jobs)
        console.print(describe_data(data), highlight=False, soft_wrap=True)


def describe_data(data: Dataset) -> str:
    """Say in lines how much data there is, how good it is, and what was left out."""
    returns = data.episode_returns
    quality = f"mean return {returns.mean():.0f}, normalised score {data.behaviour_score:.1f}" if len(returns) else ""
    counts = f"{data.name}: {len(data.transitions):,} transitions, {len(returns):,} complete episodes"
    return "\n".join([f"{counts}, {quality or 'no return is known'}", *data.notes])


def workspace(out: Path) -> Workspace:
    """Make the workspace of a table's folder; CFDG_CACHE moves the datasets."""
    return Workspace(out.resolve())


def default_jobs(profile: Profile, cells: int) -> int:
    """Choose one job per core on a CPU; one job on a GPU, which the replica axis fills."""
    if profile.device != "cpu" and torch.cuda.is_available():
        return 1
    return max(1, min(os.cpu_count() or 1, cells))


def check_writable(out: Path) -> None:
    """Refuse a folder that cannot be written before hours are spent.

    Raises:
        PermissionError: in one sentence.
    """
    parent = out.resolve()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"folder {out} cannot be written: {parent} is not a writable folder")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise PermissionError(f"folder {out} cannot be written: {error.strerror}") from error


def check_device(profile: Profile) -> None:
    """Refuse a device that there is none of, and graphs on a CPU, before the data are read.

    Raises:
        ValueError: with the device, and how many there are.
    """
    name = profile.device
    count = torch.cuda.device_count()
    index = int(name.partition(":")[2] or 0)
    if name.startswith("cuda") and index >= count:
        raise ValueError(f"device is {name!r}, and PyTorch sees {count} CUDA devices here, expected one of them or cpu")
    if profile.capture and (name == "cpu" or not count):
        raise ValueError("capture is true on a CPU, expected a CUDA device for CUDA graphs")


def duration(seconds: float) -> str:
    """Say seconds in words: minutes below two hours, hours below two days."""
    if seconds < 7200:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
