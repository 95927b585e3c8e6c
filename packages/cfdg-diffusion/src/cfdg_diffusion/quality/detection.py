"""Detection of synthetic rows among real ones by boosted trees: the headline of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfdg_diffusion.quality.tables import Column, Tables, subsample
from cfdg_diffusion.quality.trees import area_under_curve, fit_classifier, tree_features

FOLDS = 5
_NORMAL_95 = 1.96
_CURVE_POINTS = 51


@dataclass(frozen=True, slots=True)
class Auc:
    """Cross-validated area under the ROC curve in [0, 1], its 95 % interval, and the rows of each kind behind it."""

    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Detection:
    """Synthetic against real rows, as many of each: an AUC of 0.5 is guessing, 1 finds every synthetic row.

    Attributes:
        auc: of the synthetic rows.
        floor: the AUC of the training rows against the holdout, as of any fresh real draw; None without a holdout.
        reference: the real rows used, ``"holdout"`` or ``"train"``.
        importance: column and the AUC lost when its values are shuffled in one fold's test rows, largest first.
        curve: points (false alarms, synthetic rows found) of the ROC curve over all folds.
    """

    auc: Auc
    floor: Auc | None
    reference: str
    importance: tuple[tuple[str, float], ...]
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class _Scored:
    auc: Auc
    scores: np.ndarray
    synthetic: np.ndarray
    importance: np.ndarray


def detection(tables: Tables, seed: int) -> Detection:
    """Measure how well the synthetic rows, and then the training rows, are told from the reference."""
    rng = np.random.default_rng([seed, 1])
    rows = min(len(tables.synthetic), len(tables.reference))
    real = subsample(tables.reference, rows, rng)
    synthetic = subsample(tables.synthetic, rows, rng)
    found = _cross_validated(tables.columns, real, synthetic, seed, FOLDS)
    floor = None
    if tables.holdout is not None:
        floor = detection_auc(tables.columns, real, subsample(tables.train, rows, rng), seed)
    names = [column.name for column in tables.columns]
    order = np.argsort(-found.importance, kind="stable")
    return Detection(
        auc=found.auc,
        floor=floor,
        reference="train" if tables.holdout is None else "holdout",
        importance=tuple((names[index], float(found.importance[index])) for index in order),
        curve=_curve(found.scores, found.synthetic),
    )


def detection_auc(
    columns: Sequence[Column], real: np.ndarray, synthetic: np.ndarray, seed: int, folds: int = FOLDS
) -> Auc:
    """Measure the AUC alone, of two tables ``(N, D)`` of one length N >= 2 x folds."""
    return _cross_validated(columns, real, synthetic, seed, folds, importance=False).auc


def _cross_validated(
    columns: Sequence[Column], real: np.ndarray, synthetic: np.ndarray, seed: int, folds: int, importance: bool = True
) -> _Scored:
    from sklearn.model_selection import StratifiedKFold

    features = np.concatenate(tree_features(columns, [real, synthetic]))
    target = np.repeat([0, 1], [len(real), len(synthetic)])
    scores = np.empty(len(target))
    areas = []
    lost = np.zeros(len(columns))
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, target):
        model = fit_classifier(columns, features[train], target[train], seed)
        scores[test] = model.predict_proba(features[test])[:, 1]
        areas.append(_area(scores[test], target[test]))
        if importance and len(areas) == 1:
            lost = _importance(model, features[test], target[test], np.random.default_rng([seed, 2]))
    return _Scored(_interval(areas, len(real)), scores, target == 1, lost)


def _area(scores: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    return area_under_curve(scores[target == 0], scores[target == 1])


def _interval(areas: list[tuple[float, float]], rows: int) -> Auc:
    """Average over the folds; their test rows differ, so the variances of the means add."""
    value = float(np.mean([area for area, _ in areas]))
    half = _NORMAL_95 * float(np.sqrt(sum(variance for _, variance in areas))) / len(areas)
    return Auc(value, max(0.0, value - half), min(1.0, value + half), rows)


def _importance(model, features: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # noqa: ANN001
    whole, _ = _area(model.predict_proba(features)[:, 1], target)
    lost = np.empty(features.shape[1])
    for column in range(features.shape[1]):
        changed = features.copy()
        changed[:, column] = rng.permutation(changed[:, column])
        lost[column] = whole - _area(model.predict_proba(changed)[:, 1], target)[0]
    return lost


def _curve(scores: np.ndarray, synthetic: np.ndarray) -> tuple[tuple[float, float], ...]:
    thresholds = np.quantile(scores, np.linspace(1, 0, _CURVE_POINTS))
    points = [(float((scores[~synthetic] >= t).mean()), float((scores[synthetic] >= t).mean())) for t in thresholds]
    return ((0.0, 0.0), *points, (1.0, 1.0))
