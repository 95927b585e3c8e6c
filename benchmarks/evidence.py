"""Study of docs/evidence.md: run its cells one after another in one process, and write what is finished to the page.

    python benchmarks/evidence.py run --out study            continues where it was
    python benchmarks/evidence.py run --out study --missing  only what the page has no scores of
    python benchmarks/evidence.py report --out study         tables, raw scores and picture from what is finished
    python benchmarks/evidence.py list --out study           what is finished

A report keeps the scores that its page has already; with another --page it is of the folder's cells alone.
The reference of every cell comes first, then the arms of the first hypothesis, then the others; cells with 20 updates
per step come last.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from cfdg_experiments.cells.cell import Cell, Event, Workspace
from cfdg_experiments.cells.run import run_cell
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import CellProfile, profile_for
from evidence_scores import Told, finished, read_scores

SETTINGS = "reduced"  # the profile; what a cell changes is below


@dataclass(frozen=True)
class Place:
    """A cell of the study: a dataset, how many of its rows, an algorithm, and updates per environment step.

    Attributes:
        refresh_every: environment steps between refreshes.
        extra: generated rows come on top of the real ones of a batch.
        first_seed: of ten.
        profile: of the settings; "quick" is a cell of that profile as it is, but for its seeds and ``changes``.
        changes: further keys of the profile, with their values.
        note: what these are, where the name would not tell.
    """

    dataset: str
    rows: int
    algorithm: str
    updates: int
    refresh_every: int = 600
    extra: bool = False
    first_seed: int = 0
    profile: str = SETTINGS
    changes: Mapping[str, object] = field(default_factory=dict, hash=False)
    note: str = ""

    @property
    def name(self) -> str:
        """Words of the page, such as ``apl halfcheetah-medium 5k x5``."""
        fresh = f" every {self.refresh_every}" if self.refresh_every != 600 else ""
        extra = " extra" if self.extra else ""
        seeds = f" seeds {self.first_seed} to {self.first_seed + 9}" if self.first_seed else ""
        own = "" if self.profile == SETTINGS else f" {self.profile}{self.note}"
        return f"{self.algorithm} {self.dataset} {self.rows // 1000}k x{self.updates}{own}{fresh}{extra}{seeds}"

    @property
    def reference(self) -> str:
        """The arm that others are compared with; in paradigm 2 base-share is base."""
        return "base" if self.algorithm == "apl" else "base-share"

    def cell(self, arm: str) -> Cell:
        """Make the cell of an arm, or of a variant of one."""
        name, changes = VARIANTS.get(arm, (arm, {}))
        own = replace(self, changes={**self.changes, **changes})
        return Cell(f"recorded:{self.dataset}", self.algorithm, name, _settings(own))


@functools.cache
def _settings(place: Place) -> CellProfile:
    dataset = f"recorded:{place.dataset}"
    seeds = list(range(place.first_seed, place.first_seed + 10))
    if place.profile != SETTINGS:
        own = load_profile(place.profile, {"device": "cpu", "seeds": seeds, **place.changes})
        return profile_for(own, dataset, place.algorithm)
    changes = {
        "device": "cpu",
        "data.datasets": [dataset],
        "data.rows": place.rows,
        "seeds": seeds,
        "finetune.updates_per_round": place.updates,
        "apl.finetune.updates_per_round": 300 * place.updates,
    }
    if place.refresh_every != 600:  # as many gradient steps of the generator in all
        steps = 500 * place.refresh_every // 600
        changes |= {f"{part}finetune.refresh_every": place.refresh_every for part in ("", "apl.")}
        changes |= {f"{part}refresh.steps": steps for part in ("", "apl.")}
    if place.extra:
        changes["mixing.extra"] = True
    return profile_for(load_profile(SETTINGS, {**changes, **place.changes}), dataset, place.algorithm)


PLACES = (
    Place("halfcheetah-medium", 5000, "apl", 5),
    Place("halfcheetah-medium", 5000, "apl", 20),
    Place("pointmaze-medium-play", 5000, "iql", 5),
    Place("halfcheetah-medium-replay", 20_000, "iql", 5),
    Place("pointmaze-medium-play", 5000, "pex", 5),
    Place("halfcheetah-medium-replay", 20_000, "apl", 5),
    Place("halfcheetah-medium-replay", 20_000, "pex", 5),
    Place("hopper-medium", 5000, "apl", 5),
    Place("hopper-medium", 5000, "iql", 5),
    Place("hopper-medium", 5000, "pex", 5),
    Place("pointmaze-medium-play", 5000, "iql", 20),
    Place("halfcheetah-medium", 5000, "apl", 1),
    Place("pointmaze-medium-play", 5000, "iql", 1),
    Place("halfcheetah-medium", 100_000, "apl", 5),
    Place("pointmaze-medium-play", 100_000, "iql", 5),
)
ADDED = (  # after the first results, before any run of their own
    Place("halfcheetah-medium", 5000, "iql", 5),
    Place("halfcheetah-medium", 5000, "pex", 5),
    Place("pointmaze-medium-play", 5000, "iql", 5, refresh_every=120),
    Place("pointmaze-medium-play", 5000, "iql", 5, refresh_every=120, extra=True),
    Place("pointmaze-medium-play", 5000, "pex", 5, refresh_every=120, extra=True),
    Place("halfcheetah-medium-replay", 20_000, "apl", 5, refresh_every=300, extra=True),
    Place("halfcheetah-medium", 5000, "apl", 5, refresh_every=300, extra=True),
    Place("hopper-medium", 5000, "apl", 5, refresh_every=300, extra=True),
    Place("halfcheetah-medium", 5000, "pex", 20),
)
CONFIRMED = tuple(Place("hopper-medium", 5000, "apl", 5, first_seed=first) for first in (10, 20))
QUICK = tuple(
    Place("halfcheetah-medium-replay", 60_000, "apl", 5, refresh_every=2000, first_seed=first, profile="quick")
    for first in (10, 20)
)
REFRESHED = tuple(
    replace(QUICK[0], refresh_every=600, first_seed=first, changes={"apl.finetune.refresh_every": 600})
    for first in (10, 20, 30)
)
ABLATED = {  # the first ten seeds of QUICK, each with one thing that differs; a place and an arm
    "20,000 rows": (replace(QUICK[0], rows=20_000, changes={"data.rows": 20_000}), "cfdg-split"),
    "networks and batches of 64": (
        replace(
            QUICK[0],
            changes={"apl.td3_bc.hidden": [64, 64], "apl.pretrain.batch_size": 64, "apl.finetune.batch_size": 64},
            note=" narrow",
        ),
        "cfdg-split",
    ),
    "four refreshes": (REFRESHED[0], "cfdg-split"),
    "narrower noise": (
        replace(QUICK[0], changes={"diffusion.sigma_min": 0.02, "diffusion.sigma_max": 20.0}, note=" narrow noise"),
        "cfdg-split",
    ),
    "the paper's joint model": (QUICK[0], "cfdg"),
    "a gate": (QUICK[0], "cfdg-split-gated"),
    "a gate and the adaptive ratio": (QUICK[0], "cfdg-split-adaptive"),
}
EXPANDED = tuple(Place("halfcheetah-medium", 5000, "pex", 5, first_seed=first) for first in (10, 20))
UPDATED = tuple(replace(place, updates=20) for place in EXPANDED)
SAMPLES = {  # of fresh seeds
    "second": CONFIRMED,
    "third": QUICK,
    "fourth": EXPANDED,
    "fifth": UPDATED,
    "sixth": REFRESHED[1:],
}
FIRST = ("base-share", "repeat", "simulated", "cfdg-split", "base")  # of every cell before any other arm
OTHERS = (
    "cfdg-split-gated",
    "jitter",
    "cfdg",
    "cfdg-simulated",
    "base-updates",
    "synther",
    "edis",
    "cfdg-split-adaptive",
)
VARIANTS = {  # arms with a setting of their own: at QUICK's refresh 8,400 updates, for all seconds of its generator
    "base-updates 8400": ("base-updates", {"generators.updates_per_fit_step": 4.2}),
}
ARMS = (*FIRST, *OTHERS, *VARIANTS)


FINISHED, ON_PAGE, TO_RUN = "finished", "on the page", "to run"


def every_place() -> list[Place]:
    """List the cells: registered ones, added ones, samples of fresh seeds, the ablation's."""
    fresh = [place for sample in SAMPLES.values() for place in sample]
    return list(dict.fromkeys([*PLACES, *ADDED, *fresh, *(place for place, _ in ABLATED.values())]))


def order() -> list[tuple[Place, str]]:
    """List what is run: references, then the arms of the first hypothesis, the first cell, and the rest."""
    cheap_first = sorted(PLACES + ADDED, key=lambda place: place.updates > 5)
    references = [(place, place.reference) for place in cheap_first]
    main = [(place, arm) for place in cheap_first for arm in FIRST]
    first = [(PLACES[0], arm) for arm in OTHERS]
    rest = [(place, arm) for place in cheap_first for arm in OTHERS]
    fresh = [place for sample in SAMPLES.values() for place in sample]
    confirming = [(place, arm) for place in fresh for arm in (place.reference, "repeat", "cfdg-split")]
    confirming += [(place, arm) for place in QUICK for arm in ("base-updates", "simulated", *VARIANTS)]  # to tell why
    confirming += [own for place, arm in ABLATED.values() for own in ((place, place.reference), (place, arm))]
    wanted = dict.fromkeys(references + confirming + main + first + rest)
    return [(place, arm) for place, arm in wanted if not _is_the_base(place, arm)]


def _is_the_base(place: Place, arm: str) -> bool:
    return arm == "base-share" and place.reference == "base"


def state(place: Place, arm: str, space: Workspace, told: Told) -> str:
    """Say whether an arm of a cell is finished in the workspace, on the page, or to run."""
    if space.result(place.cell(arm)).exists():
        return FINISHED
    return ON_PAGE if arm in told.get(place.name, {}) else TO_RUN


def run(space: Workspace, skipped: tuple[str, ...], told: Told) -> None:
    """Run every arm of every cell whose state is not to be skipped."""
    torch.set_num_threads(1)
    for place, arm in order():
        if state(place, arm, space, told) in skipped:
            continue
        began = time.process_time()
        result = run_cell(place.cell(arm), space, _silent)
        seconds = time.process_time() - began
        print(f"{place.name}, {arm}: final {result.final.mean():.1f}, {seconds:.0f} CPU s", flush=True)


def _silent(event: Event) -> None:
    """Show no progress."""


def main() -> None:
    """Read the command line."""
    arguments = parse()
    space = Workspace(arguments.out.resolve(), arguments.cache)
    told = read_scores(arguments.page.with_suffix(".csv"), {place.name for place in every_place()}, ARMS)
    if arguments.command == "run":
        run(space, (FINISHED, ON_PAGE) if arguments.missing else (FINISHED,), told)
    elif arguments.command == "list":
        for place, arm in order():
            print(f"{state(place, arm, space, told):<{len(ON_PAGE)}}  {place.name}, {arm}")
    else:
        from evidence_page import write_page

        results = finished(every_place(), ARMS, space, told)
        write_page(PLACES, ADDED, SAMPLES, (QUICK[0], ABLATED), results, arguments.page)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report", "list"))
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder of the study's files")
    parser.add_argument("--cache", type=Path, help="folder of the datasets (default: the user's cache)")
    parser.add_argument("--page", type=Path, default=Path("docs/evidence.md"), help="page that report writes to")
    parser.add_argument("--missing", action="store_true", help="run only what the page has no scores of")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
