"""Studies: the paper's table and figures, and ablations, each a value that one engine runs and one report prints.

A study differs from another by its arms, its settings for the shipped profiles, its pictures, and what the paper says.
This module imports neither torch nor matplotlib, so that ``cfdg --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cfdg_experiments.reports.published import FIGURE_1_ITEM, FIGURE_2_ITEM, FIGURE_3_ITEM, TABLE_1_ITEM, PaperItem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cfdg_experiments.cells.results import CellResult
    from cfdg_experiments.reports.header import ReportHeader
    from cfdg_experiments.studies.product import Product

QUICK_TASKS = ("pointmaze-medium-play",)  # the IQL cells of the quick Table 1, which figures share
PAPER_TASKS = ("hopper-medium-replay", "halfcheetah-medium", "walker2d-medium-replay", "walker2d-random")  # section 4.3


@dataclass(frozen=True)
class Study:
    """A table or figure that one command makes.

    Attributes:
        name: of the command.
        help: one line for the list of commands.
        description: what it runs.
        examples: lines of the help, each a command and a note.
        arms: the default arms, the reference first.
        settings: by shipped profile, dotted keys that it changes.
        paper: the table or figure of the paper beside which it stands; None where the paper has none.
        pictures: by file name, functions that draw pictures besides those of every report.
        product: makes what is kept of a cell besides its curves; None where there is nothing else.
        over: whether a grid of settings multiplies the arms.
    """

    name: str
    help: str
    description: str
    examples: tuple[tuple[str, str], ...]
    arms: tuple[str, ...] = ("base", "cfdg")
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paper: PaperItem | None = None
    pictures: Mapping[str, Callable[[Sequence[CellResult], ReportHeader], Figure]] = field(default_factory=dict)
    product: Callable[[], Product] | None = None
    over: bool = False


def _on(tasks: Sequence[str] = PAPER_TASKS) -> dict[str, dict[str, Any]]:
    """Choose IQL, datasets (the paper's tasks, one that learns at once in quick) and batches of equal shares."""
    datasets = {
        "quick": [f"recorded:{task}" for task in QUICK_TASKS],
        "reduced": [f"recorded:{task}" for task in tasks],
        "paper": [f"d4rl:{task}-v2" for task in tasks],
    }
    common = {"algorithms": ["iql"], "mixing.match": "share"}
    found = {name: {**common, "data.datasets": own} for name, own in datasets.items()}
    rows = {"recorded:halfcheetah-medium": 5000, "others": 20_000}  # training runs begin with poor behaviour
    return {**found, "reduced": {**found["reduced"], "data.rows": rows}}


def _with(settings: Mapping[str, Mapping[str, Any]], quick: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Change further keys of the quick profile."""
    return {**settings, "quick": {**settings["quick"], **quick}}


def _curves_over_seconds(results: Sequence[CellResult], header: ReportHeader) -> Figure:
    from cfdg_experiments.reports.plots import SECONDS, learning_curves

    return learning_curves(results, header, over=SECONDS)


def _embedding() -> Product:
    from cfdg_experiments.studies.figure1 import EMBEDDING

    return EMBEDDING


SECONDS_PICTURE = {"curves-seconds.png": _curves_over_seconds}

TABLE_1 = Study(
    "table1",
    "run Table 1: base algorithm against the same with CFDG",
    "Pre-train offline, fine-tune online with and without CFDG, and compare.",
    (
        ("", "the quick profile: minutes on a laptop, no network"),
        ("--datasets hopper-random walker2d-*", "other datasets with the same profile"),
        ("--algorithms pex --datasets pointmaze-*", ""),
        ("--datasets minari:mujoco/hopper/medium-v0", ""),
        ("--file mine.hdf5 --env Pendulum-v1", "your own data and environment"),
        ("--profile reduced --seeds 0 1 --jobs 2", ""),
        ("--set finetune.steps=20000 diffusion.guidance_weight=0.5", ""),
        ("--profile paper --dry-run", "what the paper's table would run, and how long here"),
        ("--profile paper --data recorded", "the same without D4RL's files"),
    ),
    settings={
        "quick": {"arms": ["base", "repeat", "cfdg-split"]},
        "reduced": {"arms": ["base-share", "base", "repeat", "base-updates", "simulated", "cfdg-split"]},
    },
    paper=TABLE_1_ITEM,
)
FIGURE_1 = Study(
    "figure1",
    "make Figure 1: t-SNE of offline, online and generated rows, and numbers beside it",
    "Run cells whose arms generate rows, keep the rows that their last refresh saw and made, and show them in one "
    "plane, beside distances, detection and novelty, which such a plane cannot fake.",
    (
        ("", "EDIS, SynthER and CFDG in the quick profile: minutes on a laptop"),
        ("--arms cfdg cfdg-unguided union", "other arms"),
        ("--arms mymodule:MyGenerator cfdg", "a generator of your own"),
        ("--datasets hopper-medium --seeds 0", ""),
        ("--profile reduced --dry-run", "what it would run, and how long here"),
    ),
    arms=("edis", "synther", "cfdg"),
    settings=_with(_on(PAPER_TASKS[1:2]), quick={"seeds": [0, 1]}),  # trees and t-SNE take their time
    paper=FIGURE_1_ITEM,
    product=_embedding,
)
FIGURE_2 = Study(
    "figure2",
    "make Figure 2: CFDG against SynthER, EDIS and real rows alone",
    "Fine-tune the same offline checkpoints with each arm and compare learning curves, over environment steps and over "
    "seconds. base-share has CFDG's share of online-like rows and no generator: what CFDG adds to it is worth one.",
    (
        ("", "the quick profile: minutes on a laptop"),
        ("--arms base base-share repeat jitter cfdg", "controls without a model"),
        ("--arms base simulated cfdg-simulated cfdg", "references without model error"),
        ("--profile reduced --seeds 0 1 2 3 4 5 6 7 8 9", "evidence: the paper's tasks, ten seeds"),
        ("--profile paper --dry-run", "what the paper's figure would run, and how long here"),
    ),
    arms=("base", "base-share", "synther", "edis", "cfdg"),
    settings=_on(),
    paper=FIGURE_2_ITEM,
    pictures=SECONDS_PICTURE,
)
FIGURE_3 = Study(
    "figure3",
    "make Figure 3: CFDG for online rows only, against both labels",
    "Fine-tune the base, with generated online rows only, and with generated rows of both labels.",
    (
        ("", "the quick profile: minutes on a laptop"),
        ("--arms base cfdg-offline-only cfdg-online-only cfdg", "the fourth combination"),
        ("--profile reduced", "the paper's tasks"),
        ("--profile paper --dry-run", "what the paper's figure would run, and how long here"),
    ),
    arms=("base", "cfdg-online-only", "cfdg"),
    settings=_on(),
    paper=FIGURE_3_ITEM,
    pictures=SECONDS_PICTURE,
)
ABLATION = Study(
    "ablation",
    "vary any setting of a profile, other than its datasets, over a grid",
    "Multiply the arms by every combination of the values of --over; an arm that reads none has one column. KEY is a "
    "dotted key of the profile, or its last word where that is clear; a short key is set for APL and mazes too, a "
    "dotted one only where it says. Datasets are rows of the table, named after --datasets.",
    (
        ("--over guidance_weight=0,0.5,1", "minutes on a laptop; base is the reference"),
        ("--over online_share=0.5,0.8,1 synthetic_ratio=0.2,0.33", "a grid of six"),
        ("--over data.rows=5000,20000,100000", "each size against the base of its own size"),
        ("--over refresh_every=1000,2500 --arms cfdg synther", ""),
        ("--over iql.hidden=[64,64],[256,256] --arms base cfdg --dry-run", ""),
    ),
    settings={"quick": {"algorithms": ["iql"], "data.datasets": [f"recorded:{QUICK_TASKS[0]}"]}},
    pictures=SECONDS_PICTURE,
    over=True,
)
STUDIES = (TABLE_1, FIGURE_1, FIGURE_2, FIGURE_3, ABLATION)
