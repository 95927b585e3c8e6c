"""Figure 1: offline, online and generated rows in one t-SNE plane, and numbers that such a plane cannot fake.

Distances and densities of t-SNE say little: clusters may be near by chance, and every picture looks full. The table
beside the picture holds, for each arm and label, the sliced Wasserstein distance to real rows of the label, how well
boosted trees tell the two apart, and the distance to the nearest real row.
"""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cfdg_diffusion.quality.detection import detection_auc
from cfdg_diffusion.quality.tables import Column
from cfdg_experiments.generators.inspection import Inspection, InspectionSettings
from cfdg_rl.streams import Streams

REAL_COLOURS = {"offline": "#999999", "online": "#0072B2"}  # Okabe and Ito's palette
GENERATED_COLOURS = {"offline": "#E69F00", "online": "#D55E00"}
COLUMNS = 4  # panels in a row at most
Sets = Mapping[str, np.ndarray]  # label -> rows (N, D) in original units
Plane = Mapping[tuple[str, str], np.ndarray]  # ("real" or the arm, label) -> points (n, 2)


@dataclass(frozen=True)
class EmbeddingSettings:
    """Numbers of rows that are shown and measured.

    Raises:
        ValueError: if a number is not positive.
    """

    shown: int = 500  # rows of each set in the picture
    perplexity: float = 30.0  # t-SNE's
    iterations: int = 1_000  # t-SNE's
    measured: int = 2_000  # rows of each set that are told apart
    inspection: InspectionSettings = field(default_factory=InspectionSettings)

    def __post_init__(self) -> None:
        for name in ("shown", "perplexity", "iterations", "measured"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")


@dataclass(frozen=True)
class Likeness:
    """Likeness of the generated rows of an arm to the real rows of their label.

    Attributes:
        arm: name of the arm.
        label: "offline" or "online".
        swd: sliced Wasserstein distance, standardised.
        swd_real: the same between two draws of real rows.
        detection: cross-validated area under the curve of boosted trees; 0.5 cannot be told apart, 1 always. Copies go
            below 0.5, for the trees have seen each of them as a real row.
        detection_low: lower end of its 95 % interval.
        detection_high: upper end of its 95 % interval.
        novelty: median distance to the nearest real row over that of real rows; 1 for a fresh draw, less for copies.
        copies: share of rows nearer to a real row than all but 5 % of the real rows; 0.05 for a fresh draw.
    """

    arm: str
    label: str
    swd: float
    swd_real: float
    detection: float
    detection_low: float
    detection_high: float
    novelty: float
    copies: float


def measure(
    real: Sets, generated: Mapping[str, Sets], seed: int, settings: EmbeddingSettings = EmbeddingSettings()
) -> list[Likeness]:
    """Measure each arm's generated rows against the real rows of their label.

    Args:
        real: real rows by label.
        generated: by arm, generated rows by label; labels that an arm does not generate are left out.
        seed: of all draws.
        settings: how many rows are measured.

    Raises:
        ImportError: if scikit-learn is not installed.
        ValueError: if a label has no real rows.
    """
    require_scikit_learn()
    found = []
    for arm, sets in generated.items():
        for label, rows in sets.items():
            if label not in real:
                raise ValueError(f"label {label!r} of {arm} has no real rows, expected one of {', '.join(real)}")
            found.append(_likeness(arm, label, real[label], rows, seed=seed, settings=settings))
    return found


def _likeness(
    arm: str, label: str, real: np.ndarray, rows: np.ndarray, seed: int, settings: EmbeddingSettings
) -> Likeness:
    inspection = Inspection(Streams((seed,), f"figure 1 {label}"), None, settings.inspection)
    both = [torch.as_tensor(part, dtype=torch.float32)[None] for part in (rows, real)]
    distances = {name: float(value) for name, value in inspection.label(*both).items()}
    rng = np.random.default_rng(seed)
    count = min(len(real), len(rows), settings.measured)
    true, made = (part[rng.permutation(len(part))[:count]].astype(np.float64) for part in (real, rows))
    columns = [Column(f"column {index}", "number") for index in range(real.shape[1])]
    auc = detection_auc(columns, true, made, seed)
    return Likeness(
        arm,
        label,
        distances["swd"],
        distances["swd_real"],
        detection=auc.value,
        detection_low=auc.low,
        detection_high=auc.high,
        novelty=distances["novelty"],
        copies=distances["copies"],
    )


def embed(
    real: Sets, generated: Mapping[str, Sets], seed: int, settings: EmbeddingSettings = EmbeddingSettings()
) -> dict[tuple[str, str], np.ndarray]:
    """Place some rows of every set in one plane by t-SNE, standardised by the real rows together.

    Args:
        real: real rows by label.
        generated: by arm, generated rows by label.
        seed: of the rows shown and of t-SNE.
        settings: how many rows are shown.

    Returns:
        Points ``(n, 2)`` by ``("real", label)`` and ``(arm, label)``.

    Raises:
        ImportError: if scikit-learn is not installed.
    """
    require_scikit_learn()
    from sklearn.manifold import TSNE

    sets = {("real", label): rows for label, rows in real.items()}
    sets |= {(arm, label): rows for arm, own in generated.items() for label, rows in own.items()}
    rng = np.random.default_rng(seed)
    shown = {key: rows[rng.permutation(len(rows))[: settings.shown]] for key, rows in sets.items()}
    whole = np.concatenate(list(real.values()))
    spread = whole.std(axis=0)
    joined = (np.concatenate(list(shown.values())) - whole.mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)
    perplexity = min(settings.perplexity, (len(joined) - 1) / 3)
    plane = TSNE(perplexity=perplexity, max_iter=settings.iterations, init="pca", random_state=seed)
    ends = np.cumsum([len(rows) for rows in shown.values()])[:-1]
    return dict(zip(shown, np.split(plane.fit_transform(joined), ends), strict=True))


def average(measures: Sequence[Likeness]) -> list[Likeness]:
    """Average the measures of several seeds, by arm and label."""
    groups: dict[tuple[str, str], list[Likeness]] = {}
    for one in measures:
        groups.setdefault((one.arm, one.label), []).append(one)
    means = {key: np.mean([astuple(one)[2:] for one in group], axis=0) for key, group in groups.items()}
    return [Likeness(*key, *(float(value) for value in values)) for key, values in means.items()]


def draw(planes: Mapping[str, Plane], measures: Sequence[Likeness], foot: str = "") -> Figure:
    """Draw one panel per arm: real rows behind, the arm's generated rows in front, its numbers below.

    Args:
        planes: by arm, points of :func:`embed`; every panel is a plane of its own.
        measures: of :func:`measure`.
        foot: text below the panels.
    """
    columns = max(1, min(len(planes), COLUMNS))
    lines = max(1, math.ceil(len(planes) / columns))
    figure = Figure(figsize=(max(3.6 * columns, 7.2), 3.9 * lines + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (arm, points) in zip(panels, planes.items(), strict=False):
        _panel(axes, arm, points, [one for one in measures if one.arm == arm])
    for axes in panels[len(planes) :]:
        axes.remove()
    known = [axes.get_legend_handles_labels() for axes in panels[: len(planes)]]
    named = {label: handle for handles, labels in known for handle, label in zip(handles, labels, strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=4, fontsize=8, markerscale=2)
    figure.supxlabel(textwrap.fill(foot, int(figure.get_figwidth() * 16)), fontsize=8, color="#666666")
    return figure


def _panel(axes: Axes, arm: str, points: Plane, measures: Sequence[Likeness]) -> None:
    for (kind, label), places in points.items():
        if kind not in ("real", arm):
            continue
        colours = REAL_COLOURS if kind == "real" else GENERATED_COLOURS
        name = f"{'real' if kind == 'real' else 'generated'} {label}"
        marker = "o" if kind == "real" else "x"
        axes.scatter(*places.T, s=6, marker=marker, linewidths=0.7, color=colours[label], alpha=0.6, label=name)
    axes.set_title(arm, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    lines = [
        f"{one.label}: SWD {one.swd:.3f} (real {one.swd_real:.3f}), AUC {one.detection:.2f}, "
        f"novelty {one.novelty:.2f}, copies {100 * one.copies:.0f} %"
        for one in measures
    ]
    axes.set_xlabel("\n".join(lines), fontsize=7)


def as_csv(measures: Sequence[Likeness]) -> str:
    """Write the measures as CSV, one line per arm and label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([item.name for item in fields(Likeness)])
    writer.writerows(astuple(one) for one in measures)
    return text.getvalue()


def as_markdown(measures: Sequence[Likeness]) -> str:
    """Write the measures as a Markdown table, one line per arm and label."""
    head = "| arm | label | sliced Wasserstein (two real draws) | detection AUC | novelty | copies |"
    lines = [head, "|---|---|---|---|---|---|"]
    for one in measures:
        area = f"{one.detection:.3f} [{one.detection_low:.3f}, {one.detection_high:.3f}]"
        distance = f"{one.swd:.4f} ({one.swd_real:.4f})"
        lines.append(f"| {one.arm} | {one.label} | {distance} | {area} | {one.novelty:.2f} | {one.copies:.3f} |")
    return "\n".join(lines) + "\n"


def require_scikit_learn() -> None:
    """Check that scikit-learn can be imported.

    Raises:
        ImportError: with the command that installs it.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError("figure 1 needs scikit-learn, run pip install 'cfdg-experiments[figures]'") from error
