"""Plan of a study in a store: what every machine needs to know to run one of its cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cfdg_experiments.cells.cell import Cell
from cfdg_experiments.cells.keys import cell_key, pretrain_key
from cfdg_experiments.profiles.files import build_profile
from cfdg_experiments.profiles.grid import parse_grid
from cfdg_experiments.storage.object_store import Store
from cfdg_experiments.studies.plan import Plan, make_plan
from cfdg_experiments.studies.study import STUDIES

PLAN = "plan.json"
FORMAT = 1


@dataclass(frozen=True)
class Unit:
    """One piece of work: the pre-training of a dataset and algorithm, or a cell of the table.

    Attributes:
        run_id: hash of everything that its result depends on.
        cell: the cell, or one of those that share the pre-training.
        stage: 0 for a pre-training, 1 for a cell.
        needs: run id of the pre-training of a cell, "" for a pre-training.
    """

    run_id: str
    cell: Cell
    stage: int
    needs: str = ""

    @property
    def folder(self) -> str:
        """Name of its folder in the store."""
        return f"{'cells' if self.stage else 'pretrain'}/{self.run_id}"

    @property
    def name(self) -> str:
        """Name for messages."""
        return self.cell.name if self.stage else self.cell.pretraining


def units_of(plan: Plan) -> list[Unit]:
    """List the pre-trainings of a plan, each once, and then its cells."""
    first = {pretrain_key(cell): Unit(pretrain_key(cell), cell, 0) for cell in plan.cells()}
    return [*first.values(), *(Unit(cell_key(cell), cell, 1, pretrain_key(cell)) for cell in plan.cells())]


def find_unit(units: Sequence[Unit], run_id: str) -> Unit:
    """Find the unit of a run id.

    Raises:
        ValueError: if there is none, with those that there are.
    """
    for unit in units:
        if unit.run_id == run_id:
            return unit
    known = ", ".join(unit.run_id for unit in units[:4])
    raise ValueError(f"run id is {run_id!r}, expected one of the plan's {len(units)}, such as {known}")


def save_plan(plan: Plan, over: Sequence[str], store: Store) -> None:
    """Write a plan and what each unit is; a store has one plan for good.

    Args:
        plan: the plan.
        over: words of its grid on the command line.
        store: the store.

    Raises:
        ValueError: if the store has another plan.
    """
    settings = json.loads(json.dumps(asdict(plan.profile)))
    content = {"format": FORMAT, "study": plan.study.name, "over": list(over), "profile": settings}
    units = [
        {"run_id": unit.run_id, "stage": unit.stage, "needs": unit.needs, "name": unit.name} for unit in units_of(plan)
    ]
    written = {**content, "software": plan.header.software, "units": units}
    if not store.create(PLAN, written):
        found = _read(store)
        if {key: found.get(key) for key in content} != content:
            raise ValueError(f"store {store.uri} holds another plan, {found.get('study')}, expected an empty store")


def load_plan(store: Store) -> Plan:
    """Read the plan of a store.

    Raises:
        ValueError: if there is none, or it is of another version.
    """
    found = _read(store)
    try:
        study = next(study for study in STUDIES if study.name == found["study"])
        profile = build_profile(found["profile"], f"{store.uri}/{PLAN}")
        return make_plan(study, profile, parse_grid(found["over"], profile) if study.over else ())
    except (KeyError, TypeError, StopIteration) as error:
        raise ValueError(f"{store.uri}/{PLAN} is no plan of this version ({error!r})") from error


def _read(store: Store) -> dict[str, Any]:
    found = store.read(PLAN)
    if found is None:
        raise ValueError(f"store {store.uri} has no {PLAN}, expected one of 'cfdg table1 --store {store.uri}'")
    if found.get("format") != FORMAT:
        raise ValueError(f"{store.uri}/{PLAN} has format {found.get('format')!r}, expected {FORMAT}")
    return found
