"""Engine of all studies, from command line to report: resolve the profile, prepare the data, run the cells, report."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cfdg_experiments.cells.cell import Cell, Event, Workspace, finished_cells
from cfdg_experiments.cells.keys import cell_key
from cfdg_experiments.cells.results import CellKey, CellResult, write_text
from cfdg_experiments.cells.run import run_cell
from cfdg_experiments.cells.seeds import SeedParts, adopt, finished_results, parts_to_run
from cfdg_experiments.profiles.files import PROFILES, dump_profile, load_profile, parse_overrides
from cfdg_experiments.profiles.grid import parse_grid
from cfdg_experiments.profiles.profile import DataSettings, Profile, has_cell, named_datasets
from cfdg_experiments.profiles.selection import choose_datasets, own_file
from cfdg_experiments.reports.header import count
from cfdg_experiments.reports.report import to_rich, write_report
from cfdg_experiments.reports.text_table import rich_table
from cfdg_experiments.studies.display import Display, unfinished
from cfdg_experiments.studies.plan import Plan, make_plan, refresh_steps
from cfdg_experiments.studies.preflight import check_device, check_rewards, check_writable
from cfdg_experiments.studies.product import Product, Written
from cfdg_experiments.studies.study import Study
from cfdg_experiments.studies.workers import Task, run_grid
from cfdg_experiments.tracking.address import check_tracking
from cfdg_experiments.tracking.tracker import Tracker
from cfdg_rl.datasets.dataset import DataWarning
from cfdg_rl.datasets.load import Dataset, is_own, load_dataset
from cfdg_rl.locks import locked


def resolve(study: Study, arguments: argparse.Namespace) -> Plan:
    """Load the profile with everything that study and command line change, and plan the cells.

    Raises:
        ValueError: if a name, key, type or value is wrong, or an arm has no such product.
    """
    profile = _profile(study, arguments)
    profile = replace(profile, data=_chosen_data(profile.data, arguments))
    plan = make_plan(study, profile, parse_grid(arguments.over, profile) if study.over else ())
    if study.product:
        study.product().check(plan.cells())
    return plan


def _chosen_data(data: DataSettings, arguments: argparse.Namespace) -> DataSettings:
    """Replace the profile's datasets by those of the command line, which hold for every algorithm."""
    own = own_file(arguments.file, arguments.env, arguments.only, arguments.data)
    datasets = own or choose_datasets(data.datasets, arguments.only, arguments.data)
    apl = None if own or arguments.only else data.apl_datasets
    apl_datasets = apl and tuple(choose_datasets(apl, None, arguments.data))
    return replace(data, datasets=tuple(datasets), apl_datasets=apl_datasets)


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
    """Print every run of the study, those that are finished already, and an estimate from a short measurement.

    The user's own data are read and checked as by a run.
    """
    from cfdg_experiments.studies.estimate import estimate_seconds

    space = workspace(out)
    cells = plan.cells()
    console = Console()
    jobs = jobs or default_jobs(plan.profile, len(cells))
    _prepare_data([cell for cell in cells if is_own(cell.dataset)], space, jobs, console)
    done = _done(plan, space)
    waiting = list(_wholes(plan, [cell for cell in cells if cell not in done], space))
    fresh = {space.pretrained(cell): cell for cell in waiting}
    torch.set_num_threads(1)
    fits = {space.generator(cell): cell for cell in waiting if cell.augmentation.offline_fit}
    to_make = [[cell for path, cell in own.items() if not path.exists()] for own in (fresh, fits)]
    seconds = estimate_seconds(waiting, *to_make)
    product = _product(plan)
    seconds = (seconds + (product.seconds(waiting) if product else 0.0)) / jobs
    console.print(_plan_table(plan, done))
    console.print(
        f"{len(cells) * len(plan.profile.seeds)} seed runs in {len(cells)} groups, {len(waiting)} groups to run; "
        f"about {duration(seconds)} with {jobs} jobs on this machine's CPU, measured just now; "
        f"data preparation not counted. Nothing was run."
    )


def _plan_table(plan: Plan, done: Collection[Cell]) -> Table:
    """List the cells with their steps, and if they are finished."""
    titles = ("dataset", "algorithm", "arm", "offline\nupdates", "online\nsteps", "state")
    lines = []
    for cell, keys in plan.keys().items():
        steps = (count(cell.profile.pretrain.steps), count(cell.profile.finetune.steps))
        lines += [[*key, *steps, "done" if cell in done else "to run"] for key in keys]
    title = f"{plan.study.name}, profile {plan.profile.name}: {len(plan.profile.seeds)} seeds per cell, as replicas"
    return rich_table(titles, lines, title=title, gap=0, words=3)


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
    for sentence in [*left_out(plan.profile), *without_gate(plan.cells())]:
        console.print(sentence, highlight=False, soft_wrap=True)
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
    if product is None:
        return finished_results(plan.cells(), space)
    found = finished_cells(plan.cells(), space)  # what a product needs besides is kept of whole cells alone
    return {cell: result for cell, result in found.items() if product.is_done(cell, space)}


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
        adopt(cell, result, space)
        listeners.finished(cell, result)
    if missing := [cell for cell in listeners.keys if cell not in done]:
        parts = SeedParts(_wholes(plan, missing, space), space, listeners.notify, listeners.finished)
        run_grid(list(parts.wholes), space, jobs, parts.event, parts.result, task=_task(plan))


def _wholes(plan: Plan, cells: Sequence[Cell], space: Workspace) -> dict[Cell, Cell]:
    """Give each part that is to be run its whole cell; cells with a product are run as they are."""
    if _product(plan):
        return {cell: cell for cell in cells}
    return {part: cell for cell in cells for part in parts_to_run(cell, space)}


def _prepare_data(cells: Sequence[Cell], space: Workspace, jobs: int, console: Console) -> None:
    """Make or check every dataset before anything else is written."""
    wanted: Mapping[Any, Cell] = {(cell.dataset, cell.profile.rows, cell.profile.data_seed): cell for cell in cells}
    for name, rows, seed in wanted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # its notes are printed below
            data = load_dataset(name, rows=rows, seed=seed, cache=space.cache, progress=True, jobs=jobs)
        check_rewards(cells, data)
        console.print(describe_data(data), highlight=False, soft_wrap=True)


def left_out(profile: Profile) -> list[str]:
    """Say which algorithms are not run on which datasets."""
    pairs = [(algorithm, dataset) for algorithm in profile.algorithms for dataset in named_datasets(profile, algorithm)]
    return [
        f"{algorithm} is left out on {dataset}: it cannot learn from a sparse reward as it is"
        for algorithm, dataset in pairs
        if not has_cell(algorithm, dataset)
    ]


def without_gate(cells: Sequence[Cell]) -> list[str]:
    """Say which generators of one's own have no gate or adaptive ratio, although the settings have."""
    found = {
        f"mixing.{name} does nothing in arm {cell.arm}: it is for this package's learnt generators"
        for cell in cells
        for name in ("gate", "adaptive")
        if cell.augmentation.is_own and getattr(cell.profile.mixing, name)
    }
    return sorted(found)


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


def duration(seconds: float) -> str:
    """Say seconds in words: minutes below two hours, hours below two days."""
    if seconds < 7200:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
