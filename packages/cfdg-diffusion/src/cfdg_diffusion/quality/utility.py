"""Utility: scores on held-out real rows of a model trained on synthetic rows and of one trained on real rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cfdg_diffusion.quality.detection import Auc, detection_auc
from cfdg_diffusion.quality.tables import OTHER, Column, Tables, subsample
from cfdg_diffusion.quality.trees import area_under_curve, fit_classifier, fit_regressor, tree_features

_MOST_CLASSES = 20
"""Classes told apart, the most frequent ones; the others are one class. Integers with no more values are classes."""
_CLASS_FEWEST = 5
"""Training rows that a value needs to be a class of its own."""
_CLASS_FOLDS = 3
_CLASS_ROWS = 60
"""Fewest rows of a class, real and synthetic, for a detection score of its own."""
_DETECTED_CLASSES = 10


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of the label.

    Attributes:
        share_real, share_synthetic: its share of the reference rows and of the synthetic rows.
        recall_real, recall_synthetic: share of its holdout rows found, after training on real or synthetic rows.
        precision_real, precision_synthetic: share of the holdout rows given this class that have it; 0 if none is.
        detection: boosted trees telling its synthetic from its real rows; None if it has too few.
    """

    name: str
    share_real: float
    share_synthetic: float
    recall_real: float | None
    recall_synthetic: float | None
    precision_real: float | None
    precision_synthetic: float | None
    detection: Auc | None


@dataclass(frozen=True, slots=True)
class Utility:
    """Boosted trees for the label, tested on the holdout.

    Attributes:
        metric: ``"AUC"`` (macro, one class against the rest) or ``"R2"``.
        real: after training on real rows; None without a holdout.
        synthetic: after training on as many synthetic rows; None without a holdout.
        difference: ``synthetic - real``.
        classes: most frequent first; empty for a numeric label.
    """

    label: str
    metric: Literal["AUC", "R2"]
    real: float | None
    synthetic: float | None
    difference: float | None
    classes: tuple[ClassScore, ...]


@dataclass(frozen=True, slots=True)
class _Classes:
    """The values of the label that are classes of their own, most frequent first, and their names."""

    values: np.ndarray
    names: tuple[str, ...]

    def of(self, label: np.ndarray) -> np.ndarray:
        """Return the class of every row ``(N,)``: -1 for a missing label, the last class for a rare one."""
        found = label[:, None] == self.values
        rare = np.where(np.isnan(label), -1, len(self.names) - 1)
        return np.where(found.any(1), found.argmax(1), rare)


def utility(tables: Tables, label: int, seed: int) -> Utility:
    """Train on real rows, train on synthetic rows, test on real rows; also per class if the label has classes.

    Raises:
        ValueError: if the label has no value in one of the tables.
    """
    column = tables.columns[label]
    for name, part in (("real_train", tables.train), ("synthetic", tables.synthetic), ("holdout", tables.reference)):
        if np.isnan(part[:, label]).all():
            raise ValueError(f"the label column {column.name!r} has no value in {name}")
    classes = _classes(column, tables.train[:, label])
    if classes is None:
        return _numeric(tables, label, seed)
    fitted = {} if tables.holdout is None else _classifiers(tables, label, classes, seed)
    truth = classes.of(tables.reference[:, label])
    real, synthetic = (macro_auc(truth, fitted[name]) if name in fitted else None for name in ("train", "synthetic"))
    scores = _class_scores(tables, label, classes, fitted, seed)
    return Utility(
        label=column.name,
        metric="AUC",
        real=real,
        synthetic=synthetic,
        difference=_difference(real, synthetic),
        classes=scores,
    )


def _difference(real: float | None, synthetic: float | None) -> float | None:
    return None if real is None or synthetic is None else synthetic - real


def _classes(column: Column, label: np.ndarray) -> _Classes | None:
    """Return the levels, or the values of integers with at most 20 of them; None for any other number."""
    values, counts = np.unique(label[~np.isnan(label)], return_counts=True)
    if not column.has_levels and (len(values) > _MOST_CLASSES or not (values == np.round(values)).all()):
        return None
    order = np.argsort(-counts, kind="stable")
    own = values[order[: min(_MOST_CLASSES, max(int((counts >= _CLASS_FEWEST).sum()), 1))]]
    # Rare classes, and classes that only other tables have, share the last one.
    return _Classes(own, (*(column.text(value) for value in own), OTHER))


def _split(tables: Tables, label: int) -> tuple[list[Column], dict[str, np.ndarray]]:
    """Return the features for trees: every column but the label."""
    parts = {"train": tables.train, "synthetic": tables.synthetic, "reference": tables.reference}
    columns = [column for index, column in enumerate(tables.columns) if index != label]
    kept = [np.delete(part, label, axis=1) for part in parts.values()]
    return columns, dict(zip(parts, tree_features(columns, kept), strict=True))


def _classifiers(tables: Tables, label: int, classes: _Classes, seed: int) -> dict[str, np.ndarray]:
    """Predict the class probabilities ``(N, K)`` of every reference row, trained on real and on synthetic rows."""
    columns, features = _split(tables, label)
    found = {}
    for name, part in (("train", tables.train), ("synthetic", tables.synthetic)):
        target = classes.of(part[:, label])
        known = target >= 0
        probabilities = np.zeros((len(features["reference"]), len(classes.names)))
        present = np.unique(target[known])
        if len(present) == 1 or not columns:
            probabilities[:, present] = [(target == value).sum() / known.sum() for value in present]
        else:
            model = fit_classifier(columns, features[name][known], target[known], seed)
            probabilities[:, model.classes_] = model.predict_proba(features["reference"])
        found[name] = probabilities
    return found


def macro_auc(truth: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Average the AUC of one class against the rest over the classes.

    Args:
        truth: classes ``(N,)``, -1 for unknown.
        probabilities: ``(N, K)``.

    Returns:
        A number in [0, 1]; None if the truth holds a single class.
    """
    known = truth >= 0
    present = np.unique(truth[known])
    if len(present) < 2:
        return None
    areas = [
        area_under_curve(probabilities[known & (truth != value), value], probabilities[truth == value, value])[0]
        for value in present
    ]
    return float(np.mean(areas))


def _numeric(tables: Tables, label: int, seed: int) -> Utility:
    name = tables.columns[label].name
    if tables.holdout is None or len(tables.columns) == 1:
        return Utility(label=name, metric="R2", real=None, synthetic=None, difference=None, classes=())
    columns, features = _split(tables, label)
    truth = tables.holdout[:, label]
    scores = []
    for part, target in (("train", tables.train[:, label]), ("synthetic", tables.synthetic[:, label])):
        known = ~np.isnan(target)
        model = fit_regressor(columns, features[part][known], target[known], seed)
        scores.append(r_squared(truth, model.predict(features["reference"])))
    real, synthetic = scores
    difference = _difference(real, synthetic)
    return Utility(label=name, metric="R2", real=real, synthetic=synthetic, difference=difference, classes=())


def r_squared(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """Return 1 - squared error / squared deviation from the mean, over known truths ``(N,)``; None for a constant."""
    known = ~np.isnan(truth)
    spread = float(((truth[known] - truth[known].mean()) ** 2).sum())
    return 1 - float(((truth[known] - predicted[known]) ** 2).sum()) / spread if spread > 0 else None


def _class_scores(
    tables: Tables, label: int, classes: _Classes, fitted: dict[str, np.ndarray], seed: int
) -> tuple[ClassScore, ...]:
    truth = classes.of(tables.reference[:, label])
    made = classes.of(tables.synthetic[:, label])
    detect = _class_detector(tables, truth, made, seed)
    found = []
    for value, name in enumerate(classes.names):
        if value == len(classes.names) - 1 and not ((truth == value).any() or (made == value).any()):
            continue
        real, synthetic = (_recall_precision(truth, fitted.get(part), value) for part in ("train", "synthetic"))
        found.append(
            ClassScore(
                name,
                share_real=float((truth == value).sum() / (truth >= 0).sum()),
                share_synthetic=float((made == value).sum() / (made >= 0).sum()),
                recall_real=real[0],
                recall_synthetic=synthetic[0],
                precision_real=real[1],
                precision_synthetic=synthetic[1],
                detection=detect(value) if value < _DETECTED_CLASSES else None,
            )
        )
    return tuple(found)


def _class_detector(tables: Tables, truth: np.ndarray, made: np.ndarray, seed: int) -> Callable[[int], Auc | None]:
    def detect(value: int) -> Auc | None:
        real = tables.reference[truth == value]
        synthetic = tables.synthetic[made == value]
        rows = min(len(real), len(synthetic))
        if rows < _CLASS_ROWS:
            return None
        rng = np.random.default_rng([seed, 3, value])
        parts = subsample(real, rows, rng), subsample(synthetic, rows, rng)
        return detection_auc(tables.columns, *parts, seed, _CLASS_FOLDS)

    return detect


def _recall_precision(
    truth: np.ndarray, probabilities: np.ndarray | None, value: int
) -> tuple[float | None, float | None]:
    if probabilities is None:
        return None, None
    known = truth >= 0
    actual = truth[known] == value
    guessed = probabilities[known].argmax(1) == value
    hit = float((actual & guessed).sum())
    return (hit / float(actual.sum()) if actual.any() else None), (hit / float(guessed.sum()) if guessed.any() else 0.0)
