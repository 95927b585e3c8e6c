"""Boosted trees from scikit-learn, and the area under a ROC curve with its variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cfdg_diffusion.quality.tables import Column

_MOST_LEVELS = 254
"""Levels that a histogram tree tells apart (255 bins, one for what is missing); rarer ones are pooled."""
_ITERATIONS = 100
"""Trees of a booster, scikit-learn's default; with K > 3 classes each iteration grows K trees, so fewer are run."""


def require_scikit_learn() -> None:
    """Raise an ImportError with the command that helps, unless scikit-learn can be imported."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError("a quality report needs scikit-learn: pip install 'cfdg-diffusion[report]'") from error


def tree_features(columns: Sequence[Column], parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Recode the levels of tables ``(N, D)`` for histogram trees.

    The most frequent levels of all parts together keep a code of their own: no part decides which are rare.
    """
    joined = np.concatenate(parts)
    for index, column in enumerate(columns):
        if column.has_levels:
            joined[:, index] = _pooled(joined[:, index])
    return np.split(joined, np.cumsum([len(part) for part in parts])[:-1])


def _pooled(codes: np.ndarray) -> np.ndarray:
    present = ~np.isnan(codes)
    levels, inverse, counts = np.unique(codes[present], return_inverse=True, return_counts=True)
    rank = np.empty(len(levels), int)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(levels))
    pooled = codes.copy()
    pooled[present] = np.minimum(rank[inverse], _MOST_LEVELS - 1)
    return pooled


def _settings(columns: Sequence[Column], rows: int, classes: int, seed: int) -> dict[str, Any]:
    """Choose leaves of 20 rows (scikit-learn's default) unless the table is small."""
    return {
        "max_iter": _ITERATIONS if classes <= 3 else max(20, 3 * _ITERATIONS // classes),
        "min_samples_leaf": int(np.clip(rows // 40, 5, 20)),
        "early_stopping": False,
        "random_state": seed,
        "categorical_features": np.array([column.has_levels for column in columns]),
    }


def fit_classifier(columns: Sequence[Column], features: np.ndarray, classes: np.ndarray, seed: int) -> Any:  # noqa: ANN401
    """Fit a ``HistGradientBoostingClassifier`` to features of :func:`tree_features` and integer classes ``(N,)``."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    settings = _settings(columns, len(features), len(np.unique(classes)), seed)
    return HistGradientBoostingClassifier(**settings).fit(features, classes)


def fit_regressor(columns: Sequence[Column], features: np.ndarray, targets: np.ndarray, seed: int) -> Any:  # noqa: ANN401
    """Fit a ``HistGradientBoostingRegressor`` to features of :func:`tree_features` and targets ``(N,)``."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(**_settings(columns, len(features), 1, seed)).fit(features, targets)


def area_under_curve(negative: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Estimate the chance that a positive scores above a negative (ties count half), and its variance.

    The variance is DeLong's (1988), from midranks as Sun and Xu (2014) compute it.

    Args:
        negative: scores ``(N,)``, N >= 1.
        positive: scores ``(M,)``, M >= 1.

    Returns:
        The area in [0, 1] and its variance.
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([negative, positive]))
    below = (ranks[len(negative) :] - rankdata(positive)) / len(negative)
    above = 1 - (ranks[: len(negative)] - rankdata(negative)) / len(positive)
    return float(below.mean()), _variance_of_mean(below) + _variance_of_mean(above)


def _variance_of_mean(values: np.ndarray) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.25
