"""Commands on a store: running a study there, looking at it, and reporting what is finished so far."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from cfdg_experiments.cells.cell import Cell, Workspace, finished_cells
from cfdg_experiments.cells.policy_store import FOLDER
from cfdg_experiments.cluster.cell_folder import CellFolder
from cfdg_experiments.cluster.engines import Engine, LocalEngine
from cfdg_experiments.cluster.fleet import Patience, drive, only_driver
from cfdg_experiments.cluster.live_curves import LiveCurves
from cfdg_experiments.cluster.ray_engine import RayEngine, RaySettings, import_ray
from cfdg_experiments.cluster.stored_plan import Unit, load_plan, save_plan, units_of
from cfdg_experiments.cluster.unit import CURVES
from cfdg_experiments.reports.report import to_rich
from cfdg_experiments.reports.text_table import rich_table
from cfdg_experiments.storage.object_store import Store
from cfdg_experiments.studies.plan import Plan
from cfdg_experiments.studies.preflight import check_writable
from cfdg_experiments.studies.run import default_jobs, without_gate, write_product_report
from cfdg_experiments.tracking.tracker import Tracker


@dataclass(frozen=True)
class Place:
    """Place and manner in which a stored plan runs.

    Attributes:
        uri: of the store.
        out: folder of the report and of MLflow's store.
        engine: "local", "ray", or "none" to write the plan alone.
        jobs: units at once of the local engine; None is one per core, or one on a GPU.
        retries: passing failures of a unit before it is given up.
        ray: what a unit is given on a Ray cluster.
    """

    uri: str
    out: Path
    engine: str = "local"
    jobs: int | None = None
    retries: int = 3
    ray: RaySettings = field(default_factory=RaySettings)


def run_stored(plan: Plan, over: Sequence[str], place: Place) -> int:
    """Run a plan in a store, report it and log it; returns 1 if a unit failed for good.

    Args:
        plan: of the study.
        over: words of its grid.
        place: where it runs.

    Raises:
        ValueError: if the store has another plan.
        BusyError: if another driver is at work.
    """
    console = Console()
    store = Store(place.uri)
    check_writable(place.out)
    if place.engine == "ray":
        import_ray()  # said before a plan is written
    with only_driver(store):
        save_plan(plan, over, store)
        units = units_of(plan)
        for sentence in without_gate(plan.cells()):
            console.print(sentence, highlight=False, soft_wrap=True)
        if place.engine == "none":
            words = f"run each with: cfdg cell RUN_ID --store {place.uri}"
            console.print(f"{place.uri} has a plan of {len(units)} units; {words}", soft_wrap=True)
            return 0
        with _tracker(plan, place.out) as tracker:
            say = partial(console.print, highlight=False, soft_wrap=True)
            watch = LiveCurves(store, plan.keys(), tracker).look
            failed = drive(units, store, _engine(plan, place), Patience(place.retries), say=say, watch=watch)
            report_stored(place.uri, place.out, tracker)
    return _say_failures(units, failed, console)


def _tracker(plan: Plan, out: Path) -> Tracker:
    """Open MLflow's store before the work, so that one that cannot be used is refused at once."""
    keys = plan.keys()
    ids = {key: unit.run_id for unit in units_of(plan) if unit.stage for key in keys[unit.cell]}
    return Tracker.open(out, plan.name, plan.header, plan.settings, cell_ids=ids)


def _engine(plan: Plan, place: Place) -> Engine:
    if place.engine == "ray":
        return RayEngine(place.uri, place.ray)
    return LocalEngine(place.uri, place.jobs or default_jobs(plan.profile, len(plan.cells())))


def report_stored(uri: str, out: Path, tracker: Tracker | None = None) -> None:
    """Make tables and pictures of the cells that are finished, and log them if there is a tracker."""
    store = Store(uri)
    plan = load_plan(store)
    check_writable(out)
    space = Workspace(out.resolve())
    _fetch(plan, store, space)
    done = finished_cells(plan.cells(), space)
    keys = plan.keys()
    results = [replace(result, arm=key.arm) for cell, result in done.items() for key in keys[cell]]
    results.sort(key=lambda result: list(plan.places).index(result.key))
    files = write_product_report(plan, results, space, out / plan.name)
    console = Console()
    if tracker is not None:
        for result in results:
            tracker.finished(result)
        tracker.report(files)
    console.print(to_rich(results, plan.header))
    console.print(f"\nTables, pictures and scores: {out / plan.name}", highlight=False, soft_wrap=True)


def print_status(uri: str) -> None:
    """Print what is done, running, failed and waiting, as a table."""
    store = Store(uri)
    units = units_of(load_plan(store))
    lines = [[unit.run_id, unit.name, *_state(CellFolder(store, unit.folder))] for unit in units]
    titles = ("run", "work", "state", "attempt", "step", "note")
    counts = Counter(line[2] for line in lines)
    title = ", ".join(f"{count} {state}" for state, count in counts.items()) + f" in {uri}"  # which may be long
    Console().print(rich_table(titles, lines, title=title, words=6))


def unfinished(uri: str, stage: str) -> list[str]:
    """List the run ids of the units that are not done, of stage "pretrain" or "cells"."""
    store = Store(uri)
    units = [unit for unit in units_of(load_plan(store)) if unit.folder.startswith(f"{stage}/")]
    return [unit.run_id for unit in units if CellFolder(store, unit.folder).result() is None]


def _state(folder: CellFolder) -> list[str]:
    """Describe a unit: its state, attempt, step, and a note."""
    last = folder.latest()
    if folder.result() is not None:
        return ["done", str(last.number if last else ""), "", ""]
    if last is None:
        return ["waiting", "", "", ""]
    numbers = [str(last.number), f"{last.step:,}"]
    if last.state == "failed":
        return ["failed", *numbers, last.error]
    seconds = time.time() - last.heartbeat
    where = f"{last.host}, heard {seconds:.0f} s ago"
    return ["running" if last.is_alive else "stopped", *numbers, where]


def _fetch(plan: Plan, store: Store, space: Workspace) -> None:
    """Download the curves and policies of finished cells that are not there yet."""
    for unit in units_of(plan):
        folder = CellFolder(store, unit.folder)
        if unit.stage and (result := folder.result()) is not None:
            for name in result["files"]:
                path = _local(space, unit.cell, name)
                if not path.exists():
                    folder.fetch(name, path)


def _local(space: Workspace, cell: Cell, name: str) -> Path:
    """Return where a file of a result belongs in a table's folder."""
    path = space.result(cell)
    return path if name == CURVES else space.folder / FOLDER / path.stem / Path(name).name


def _say_failures(units: Sequence[Unit], failed: dict[str, str], console: Console) -> int:
    if not failed:
        return 0
    lines = [[unit.run_id, unit.name, failed[unit.run_id]] for unit in units if unit.run_id in failed]
    console.print(rich_table(("run", "work", "reason"), lines, title=f"{len(lines)} of {len(units)} failed", words=3))
    return 1
