"""Numbers, captions and readings of the paper, to be printed beside ours and never mixed with them.

Source: "Offline-to-Online Reinforcement Learning with Classifier-Free Diffusion Generation", Table 1: normalised score
after online fine-tuning on D4RL v2, mean ± standard deviation over 5 seeds, printed to integers. IQL and PEX: 1M
offline updates and 1M environment steps; APL: 1M and 0.1M (section 4.1). The paper has no APL results on AntMaze.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER_LABEL = "paper, D4RL v2, 1M+1M steps, 5 seeds"
PAPER_LABELS = {"apl": "paper, D4RL v2, 1M+0.1M steps, 5 seeds"}  # section 4.1, Settings
PAPER_OFFLINE_STEPS = 1_000_000
PAPER_ONLINE_STEPS = {"iql": 1_000_000, "pex": 1_000_000, "apl": 100_000}
PAPER_SEEDS = 5
PAPER_ARMS = ("base", "cfdg")  # the columns "Base" and "Ours"


@dataclass(frozen=True)
class Claim:
    """A statement of the paper about two arms, to be tested by our own runs.

    Attributes:
        arm: name of the arm that the paper finds better.
        than: name of the other one.
    """

    arm: str
    than: str


@dataclass(frozen=True)
class PaperItem:
    """A table or figure of the paper, in its own words.

    Attributes:
        name: such as "Figure 2".
        caption: as printed.
        reading: sentences of the text that say what it shows, as printed.
        claims: those sentences as pairs of arms.
    """

    name: str
    caption: str
    reading: str
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True)
class PublishedScore:
    """Mean and standard deviation over 5 seeds, as printed."""

    mean: int
    std: int


# Per row: base mean, base std, ours mean, ours std.
_IQL = {
    "halfcheetah-random": (53, 6, 65, 3),
    "halfcheetah-medium-replay": (54, 0, 65, 2),
    "halfcheetah-medium": (69, 2, 75, 1),
    "halfcheetah-medium-expert": (95, 1, 93, 1),
    "hopper-random": (16, 13, 10, 1),
    "hopper-medium-replay": (66, 33, 86, 30),
    "hopper-medium": (93, 6, 97, 7),
    "hopper-medium-expert": (68, 28, 103, 17),
    "walker2d-random": (15, 8, 18, 16),
    "walker2d-medium-replay": (81, 17, 108, 2),
    "walker2d-medium": (88, 7, 96, 4),
    "walker2d-medium-expert": (113, 0, 118, 3),
    "antmaze-medium-play": (82, 13, 76, 5),
    "antmaze-medium-diverse": (82, 10, 86, 5),
    "antmaze-large-play": (48, 13, 52, 18),
    "antmaze-large-diverse": (38, 16, 52, 22),
}
_PEX = {
    "halfcheetah-random": (78, 2, 81, 7),
    "halfcheetah-medium-replay": (68, 3, 83, 3),
    "halfcheetah-medium": (78, 5, 87, 3),
    "halfcheetah-medium-expert": (90, 3, 93, 0),
    "hopper-random": (8, 0, 8, 0),
    "hopper-medium-replay": (66, 25, 83, 20),
    "hopper-medium": (91, 30, 100, 7),
    "hopper-medium-expert": (74, 22, 94, 19),
    "walker2d-random": (18, 10, 65, 37),
    "walker2d-medium-replay": (101, 7, 112, 12),
    "walker2d-medium": (101, 8, 108, 5),
    "walker2d-medium-expert": (116, 1, 111, 4),
    "antmaze-medium-play": (82, 13, 88, 11),
    "antmaze-medium-diverse": (90, 14, 98, 5),
    "antmaze-large-play": (54, 19, 56, 21),
    "antmaze-large-diverse": (38, 16, 42, 16),
}
_APL = {
    "halfcheetah-random": (93, 8, 103, 7),
    "halfcheetah-medium-replay": (76, 40, 96, 2),
    "halfcheetah-medium": (77, 39, 86, 28),
    "halfcheetah-medium-expert": (96, 3, 98, 2),
    "hopper-random": (51, 30, 30, 40),
    "hopper-medium-replay": (88, 29, 100, 15),
    "hopper-medium": (103, 2, 99, 11),
    "hopper-medium-expert": (104, 10, 112, 1),
    "walker2d-random": (12, 11, 27, 42),
    "walker2d-medium-replay": (70, 35, 109, 12),
    "walker2d-medium": (92, 26, 102, 21),
    "walker2d-medium-expert": (111, 1, 120, 10),
}

TABLE_1: dict[str, dict[str, dict[str, PublishedScore]]] = {  # algorithm -> row -> arm
    algorithm: {
        row: {"base": PublishedScore(*four[:2]), "cfdg": PublishedScore(*four[2:])} for row, four in rows.items()
    }
    for algorithm, rows in {"iql": _IQL, "pex": _PEX, "apl": _APL}.items()
}

# The totals as printed: (base, ours). They come from unrounded means and may differ by 1 from the sums of the rows.
PRINTED_TOTALS = {
    ("locomotion", "iql"): (810, 933),
    ("locomotion", "pex"): (890, 1024),
    ("locomotion", "apl"): (972, 1081),
    ("antmaze", "iql"): (250, 266),
    ("antmaze", "pex"): (264, 284),
}


def paper_label(algorithm: str) -> str:
    """Return the title of a column with the paper's numbers."""
    return PAPER_LABELS.get(algorithm, PAPER_LABEL)


def paper_row(dataset: str) -> str | None:
    """Find the row of Table 1 that a dataset stands beside, or None where the paper has no counterpart.

    ``d4rl:hopper-medium-v2`` and ``recorded:hopper-medium`` both give ``hopper-medium``; the second only has the same
    environment and level, not the same data. Other D4RL versions and Minari datasets have no counterpart.
    """
    source, _, name = dataset.partition(":")
    if source == "d4rl" and name.endswith("-v2"):
        row = name.removesuffix("-v2")
    elif source == "recorded":
        row = name
    else:
        return None
    return row if row in _IQL else None


def published(dataset: str, algorithm: str, arm: str) -> PublishedScore | None:
    """Find the paper's number for one of our cells, or None where there is none."""
    row = paper_row(dataset)
    return TABLE_1.get(algorithm, {}).get(row, {}).get(arm) if row else None


TABLE_1_ITEM = PaperItem(
    "Table 1",
    "Enhanced performance achieved by CFDG after online fine-tuning on Locomotion and Antmaze tasks. [...] All results "
    "are assessed across 5 random seeds.",
    "IQL and PEX achieve a 15% average improvement in empirical performance and APL achieve a 11% average improvement.",
    (Claim("cfdg", "base"),),
)
FIGURE_1_ITEM = PaperItem(
    "Figure 1",
    "Distribution of offline data, online data and generated data visualized with t-SNE.",
    "the offline data is more evenly distributed, while the online data is more dispersed. The generated data [of "
    "EDIS] primarily learns from the offline data and is adjusted towards the current online policy using energy "
    "guidance. As a result, the generated data retains most of the characteristics of the offline data while also "
    "exhibiting some similarities to the online data.",
)
FIGURE_2_ITEM = PaperItem(
    "Figure 2",
    "Learning curves of base algorithm augmented with model-based methods SynthER, EDIS and CFDG. Results are averaged "
    "over 5 random seeds.",
    "SynthER performs better than EDIS when directly augmenting online data [...]. However, using CFDG to augment both "
    "online and offline data simultaneously further improves performance. This is particularly evident in the "
    "halfcheetah environment, where CFDG shows significant improvement compared to SynthER and EDIS.",
    (Claim("synther", "edis"), Claim("cfdg", "synther"), Claim("cfdg", "edis")),
)
FIGURE_3_ITEM = PaperItem(
    "Figure 3",
    "Learning curves of base algorithm augmented with online data and augmented with both offline & online data using "
    "our CFDG. Results are averaged over 5 random seeds.",
    "using CFDG to augment online data outperforms the baseline. Moreover, augmenting both offline and online data "
    "simultaneously leads to further performance improvements, especially on the halfcheetah-medium-replay-v2 and "
    "walker2d-random-v2 datasets",
    (Claim("cfdg-online-only", "base"), Claim("cfdg", "cfdg-online-only")),
)
