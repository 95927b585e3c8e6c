"""Table 1 from command line to report: resolve the profile, prepare the data, run the cells, write the results."""

from __future__ import annotations

import argparse
import fnmatch
import os
import platform
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cfdg_experiments.cells import Cell, Event, Workspace, cell_key, cells_of, finished_cells
from cfdg_experiments.display import Display, unfinished
from cfdg_experiments.grid import run_grid
from cfdg_experiments.profile import Profile, near_names, schedule_for
from cfdg_experiments.profile_files import dump_profile, load_profile, parse_overrides
from cfdg_experiments.report import to_rich, write_report
from cfdg_experiments.results import CellResult, write_text
from cfdg_experiments.store import check_tracking
from cfdg_experiments.summary import ReportHeader, count
from cfdg_experiments.text_table import rich_table
from cfdg_experiments.tracking import Tracker
from cfdg_rl.datasets.dataset import DataWarning
from cfdg_rl.datasets.load import Dataset, dataset_names, load_dataset, resolve_name


def resolve(arguments: argparse.Namespace) -> Profile:
    """Load the profile with everything that the command line changes.

    Raises:
        ValueError: if a name, key, type or value is wrong.
    """
    overrides: dict[str, Any] = parse_overrides(arguments.set)
    for key in ("seeds", "arms", "algorithms", "device"):
        if getattr(arguments, key) is not None:
            overrides[key] = getattr(arguments, key)
    profile = load_profile(arguments.profile, overrides)
    datasets = own_file(arguments.file, arguments.env, arguments.only, arguments.data) or choose_datasets(
        profile.data.datasets, arguments.only, arguments.data
    )
    return replace(profile, data=replace(profile.data, datasets=tuple(datasets)))


def own_file(file: Path | None, env_id: str | None, only: Sequence[str] | None, source: str | None) -> list[str] | None:
    """Name the user's own HDF5 file and environment as the table's one dataset; None where neither is given.

    Raises:
        ValueError: if only one of them is given, or a selection besides.
    """
    if file is None and env_id is None:
        return None
    if file is None or env_id is None:
        given, other = ("--env", "--file") if file is None else ("--file", "--env")
        raise ValueError(
            f"{other} is missing beside {given}, expected --file and --env together: an HDF5 file in D4RL's layout and "
            "the id of its environment"
        )
    if only or source:
        raise ValueError("--datasets or --data is given, expected neither beside --file, the table's one dataset")
    return [resolve_name(f"hdf5:{file}@{env_id}")]


def choose_datasets(datasets: Sequence[str], only: Sequence[str] | None, source: str | None) -> list[str]:
    """List the profile's datasets, those of ``only`` (patterns allowed), or either taken from another source.

    Raises:
        ValueError: if a name or pattern matches no dataset, with near names.
    """
    source_of = source or datasets[0].partition(":")[0]
    wanted = list(datasets) if only is None else [name if ":" in name else f"{source_of}:{name}" for name in only]
    chosen: list[str] = []
    for name in wanted:
        name = _from_source(name, source) if source else name
        chosen += [match for match in _matches(name) if match not in chosen]
    return chosen


def _from_source(name: str, source: str) -> str:
    """Name the dataset of the same task in another source; the recorded mazes have a point in place of the ant."""
    task = name.partition(":")[2].removesuffix("-v2")
    bodies = ("antmaze", "pointmaze") if source == "recorded" else ("pointmaze", "antmaze")
    task = task.replace(*bodies)
    return f"{source}:{task}" + ("-v2" if source == "d4rl" and not task.endswith("*") else "")


def _matches(name: str) -> list[str]:
    if name.startswith(("minari:", "hdf5:")):
        return [resolve_name(name)]
    known = dataset_names()
    versioned = [name, f"{name}-v2"] if name.startswith("d4rl:") else [name]
    found = [other for other in known if any(fnmatch.fnmatch(other, pattern) for pattern in versioned)]
    if not found:
        raise ValueError(f"unknown dataset {name!r}{near_names(name, known)}")
    return found


def dry_run(profile: Profile, out: Path, jobs: int | None) -> None:
    """Print every run of the table, those that are finished already, and an estimate from a short measurement."""
    from cfdg_experiments.estimate import estimate_seconds

    space = workspace(out)
    cells = cells_of(profile)
    jobs = jobs or default_jobs(profile, len(cells))
    done = finished_cells(cells, space)
    waiting = [cell for cell in cells if cell not in done]
    fresh = {space.pretrained(cell): cell for cell in waiting}
    torch.set_num_threads(1)
    seconds = estimate_seconds(waiting, [cell for path, cell in fresh.items() if not path.exists()]) / jobs
    console = Console()
    console.print(_plan_table(profile, cells, done))
    console.print(
        f"{len(cells) * len(profile.seeds)} seed runs in {len(cells)} groups, {len(waiting)} groups to run; "
        f"about {duration(seconds)} with {jobs} jobs on this machine's CPU, measured just now; "
        f"data preparation not counted. Nothing was run."
    )


def _plan_table(profile: Profile, cells: Sequence[Cell], done: Collection[Cell]) -> Table:
    """List the cells with their steps, and if they are finished."""
    titles = ("dataset", "algorithm", "arm", "offline updates", "online steps", "state")
    lines = []
    for cell in cells:
        steps = (count(cell.profile.pretrain.steps), count(cell.profile.finetune.steps))
        lines.append([*cell.key, *steps, "finished" if cell in done else "to run"])
    title = f"profile {profile.name}: {len(profile.seeds)} seeds per cell, as replicas"
    return rich_table(titles, lines, title=title, words=3)


def run_table(profile: Profile, out: Path, jobs: int | None) -> None:
    """Run the missing cells, showing progress, and leave table, curves and MLflow runs behind."""
    console = Console()
    space = workspace(out)
    cells = cells_of(profile)
    jobs = jobs or default_jobs(profile, len(cells))
    check_writable(out)
    check_tracking(out)
    _prepare_data(profile, space, jobs, console)
    header = make_header(profile)
    done = finished_cells(cells, space)
    folder = out / f"table1-{profile.name}"
    write_text(folder / "settings.yaml", dump_profile(profile))
    ids = {cell.key: cell_key(cell) for cell in cells}
    tracker = Tracker.open(out, f"table1-{profile.name}", header, dump_profile(profile), cell_ids=ids)
    with tracker, Display(console, header, len(cells)) as display:
        _show_finished(done, len(cells), display, tracker)
        _run_missing(cells, space, jobs, display, tracker)
        results = sorted(display.results, key=lambda result: header.cells().index(result.key))  # not as they finished
        files = write_report(results, header, folder, refresh_steps(profile))
        tracker.report(files)
    console.print(to_rich(results, header))
    console.print(f"\nTable, curves and scores: {folder}", highlight=False, soft_wrap=True)
    console.print(tracker.how_to_look(), highlight=False, soft_wrap=True)


def _show_finished(done: Mapping[Cell, CellResult], total: int, display: Display, tracker: Tracker) -> None:
    """Show and track the cells that a repeated command skips."""
    if done:
        display.note(unfinished(total, done))
    for cell, result in done.items():
        display.finished(cell, result)
        tracker.finished(result)


def _run_missing(cells: Sequence[Cell], space: Workspace, jobs: int, display: Display, tracker: Tracker) -> None:
    """Run the grid with display and tracker listening."""

    def notify(event: Event) -> None:
        display.event(event)
        if event.evaluation:
            tracker.evaluation(event.cell.key, event.evaluation)

    def finished(cell: Cell, result: CellResult) -> None:
        display.finished(cell, result)
        tracker.finished(result)

    run_grid(cells, space, jobs, notify, finished)


def _prepare_data(profile: Profile, space: Workspace, jobs: int, console: Console) -> None:
    """Make or check every dataset before anything else is written."""
    for name in profile.data.datasets:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # its notes are printed below
            data = load_dataset(
                name, rows=profile.data.rows, seed=profile.data.seed, cache=space.cache, progress=True, jobs=jobs
            )
        console.print(describe_data(data), highlight=False, soft_wrap=True)


def describe_data(data: Dataset) -> str:
    """Say in lines how much data there is, how good it is, and what was left out."""
    returns = data.episode_returns
    quality = f"mean return {returns.mean():.0f}, normalised score {data.behaviour_score:.1f}" if len(returns) else ""
    counts = f"{data.name}: {len(data.transitions):,} transitions, {len(returns):,} complete episodes"
    return "\n".join([f"{counts}, {quality or 'no return is known'}", *data.notes])


def refresh_steps(profile: Profile) -> dict[str, range]:
    """List, by algorithm, the environment steps at which the synthetic buffers are filled anew."""
    plans = {algorithm: schedule_for(profile, algorithm).finetune for algorithm in profile.algorithms}
    return {name: range(plan.refresh_every, plan.steps, plan.refresh_every) for name, plan in plans.items()}


def make_header(profile: Profile) -> ReportHeader:
    """Describe the table, the machine and the software."""
    packages = ("cfdg-diffusion", "cfdg-rl", "cfdg-experiments", "torch", "gymnasium", "mujoco", "numpy")
    own = {algorithm: schedule_for(profile, algorithm) for algorithm in profile.algorithms}
    software: Mapping[str, str] = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return ReportHeader(
        profile=profile.name,
        datasets=profile.data.datasets,
        algorithms=profile.algorithms,
        offline_steps={name: schedule.pretrain.steps for name, schedule in own.items()},
        online_steps={name: schedule.finetune.steps for name, schedule in own.items()},
        seeds=profile.seeds,
        arms=profile.arms,
        machine=machine(profile),
        software=software,
    )


def machine(profile: Profile) -> str:
    """Describe the hardware in one line."""
    if profile.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores {platform.machine()}, CPU only"


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


def duration(seconds: float) -> str:
    """Say seconds in words: minutes below two hours, hours below two days."""
    if seconds < 7200:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
