"""The six tables on which table generators are compared; two of them have a known truth.

Every table comes as training and holdout rows of one size, because a share of closest records means nothing between
halves of different sizes. ``mixed`` knows which categories go together, ``mixture`` knows the density of every class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd

MIXED_ROWS = 20_000
CLASS_ROWS = {"ring": 3750, "crescent": 1000, "rare": 250}
"""Rows of every class of ``mixture``: 75, 20 and 5 %."""
_REGION_DRAWS = 1_000_000
_DIRECTIONS = 200
_QUANTILES = 4000


@dataclass(frozen=True)
class Split:
    """Rows to learn from, as many rows to judge by, and the column to predict."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    label: str
    task: Literal["classification", "regression"]


def table(name: str, seed: int) -> Split:
    """One of :data:`TABLES`; the seed is of the split into halves, or of the draw where the truth is known.

    Raises:
        ValueError: if there is no such table.
    """
    if name not in TABLES:
        raise ValueError(f"there is no table {name!r}, expected one of {', '.join(TABLES)}")
    return TABLES[name](seed)


def _wine(seed: int) -> Split:
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=True)
    return _named_halves(data.data, data.target_names[data.target], seed)


def _breast_cancer(seed: int) -> Split:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    return _named_halves(data.data, data.target_names[data.target], seed)


def _digits(seed: int) -> Split:
    from sklearn.datasets import load_digits

    data = load_digits(as_frame=True)
    return _named_halves(data.data, data.target.to_numpy().astype(str), seed)


def _named_halves(features: pd.DataFrame, names: np.ndarray, seed: int) -> Split:
    rows = features.assign(label=np.asarray(names, dtype=object))
    return _halves(rows, "label", "classification", seed)


def _diabetes(seed: int) -> Split:
    from sklearn.datasets import load_diabetes

    data = load_diabetes(as_frame=True, scaled=False)
    return _halves(data.data.assign(progression=data.target), "progression", "regression", seed)


def _halves(rows: pd.DataFrame, label: str, task: Literal["classification", "regression"], seed: int) -> Split:
    """Two halves of one size, an odd row left out; classes have equal shares in both."""
    from sklearn.model_selection import train_test_split

    whole = [name for name in rows if pd.api.types.is_float_dtype(rows[name]) and (rows[name] % 1 == 0).all()]
    rows = rows.astype(dict.fromkeys(whole, "int64"))  # as a reader of CSV files would find them
    half, classes = len(rows) // 2, rows[label] if task == "classification" else None
    parts = train_test_split(rows, train_size=half, test_size=half, stratify=classes, random_state=seed)
    return Split(*(part.reset_index(drop=True) for part in parts), label, task)


def _mixed(seed: int) -> Split:
    train, holdout = (draw_mixed(MIXED_ROWS, np.random.default_rng([seed, part])) for part in (0, 1))
    return Split(train, holdout, "premium", "classification")


def draw_mixed(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Customers: categories that depend on each other, spikes, skew, heavy tails, integers, values that go missing."""
    region, city, product = _places(n, rng)
    age = np.clip(rng.gamma(6, 7, n) + 10, 17, 95).astype(int)
    premium = rng.random(n) < 1 / (1 + np.exp(-(age - 50) / 10 - (product % 3 - 1)))
    hours, gain, income = _money(n, age, premium, product, rng)
    discount = np.round(rng.beta(2, 5 + 3 * premium, n), 2)
    score = np.sin(age / 10) * 2 + rng.normal(0, 0.4, n) + 0.5 * (region % 2)
    score = np.where(rng.random(n) < np.where(premium, 0.3, 0.05), np.nan, score)
    kids = np.minimum(rng.poisson(np.where(age > 25, 1.4, 0.1)), 6)
    numbers = {"age": age, "premium": premium, "hours": hours, "gain": gain, "income": income}
    names = {"region": _named("r", region), "city": _named("c", city), "product": _named("p", product)}
    return pd.DataFrame(names | numbers | {"disc": discount, "score": score, "kids": kids})


def _places(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Region, city and product ``(N,)``: a city lies in one region and sells four of the twelve products."""
    region = rng.choice(6, n, p=[0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    city = region * 7 + np.minimum(rng.geometric(0.35, n) - 1, 6)
    product = (city * 5 + rng.choice([0, 1, 2, 3], n, p=[0.5, 0.3, 0.15, 0.05])) % 12
    return region, city, product


def _money(
    n: int, age: np.ndarray, premium: np.ndarray, product: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hours with a spike at 40, gain with one at 0 and a tail, and a skewed income ``(N,)``."""
    full_time = rng.random(n) < 0.45
    hours = np.where(full_time, 40, np.clip(rng.normal(38 + 5 * premium, 10, n), 1, 99).round()).astype(int)
    none = rng.random(n) < np.where(premium, 0.75, 0.93)
    gain = np.where(none, 0, rng.lognormal(7 + 0.02 * age, 1, n).round())
    income = np.exp(rng.normal(9 + 0.3 * (product % 4) + 0.015 * age + 0.2 * premium, 0.5, n)).round(2)
    return hours, gain, income


def _named(letter: str, codes: np.ndarray) -> np.ndarray:
    return np.array([f"{letter}{code}" for code in range(codes.max() + 1)], dtype=object)[codes]


def dependencies_broken(rows: pd.DataFrame, train: pd.DataFrame) -> dict[str, float]:
    """Shares of the rows of ``mixed`` whose city and region, or city and product, never go together in training."""
    found = {}
    for other in ("region", "product"):
        seen = set(zip(train["city"], train[other], strict=True))
        found[f"city_{other}"] = float(
            np.mean([pair not in seen for pair in zip(rows["city"], rows[other], strict=True)])
        )
    return found


@dataclass(frozen=True)
class Gaussians:
    """A mixture of K Gaussians in the plane: weights ``(K,)``, means ``(K, 2)``, covariances ``(K, 2, 2)``."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Points ``(n, 2)``."""
        component = rng.choice(len(self.weights), n, p=self.weights)
        factor = np.linalg.cholesky(self.covariances)[component]
        return self.means[component] + np.einsum("nij,nj->ni", factor, rng.standard_normal((n, 2)))

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Log density ``(N,)`` at points ``(N, 2)``."""
        terms = np.empty((len(self.weights), len(points)))
        for place, (weight, mean, covariance) in enumerate(
            zip(self.weights, self.means, self.covariances, strict=True)
        ):
            white = np.linalg.solve(np.linalg.cholesky(covariance), (points - mean).T)
            constant = np.log(weight) - np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(covariance)[1]
            terms[place] = constant - 0.5 * (white**2).sum(0)
        return np.logaddexp.reduce(terms, axis=0)


def _along(angles: np.ndarray, radius: float, centre: tuple[float, float], widths: tuple[float, float]) -> Gaussians:
    """Equally likely components on an arc, each with a width along the arc and one across it."""
    across = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    axes = np.stack([np.stack([-across[:, 1], across[:, 0]], axis=1), across], axis=2)
    covariances = np.einsum("kij,j,klj->kil", axes, np.square(widths), axes)
    return Gaussians(np.full(len(angles), 1 / len(angles)), np.asarray(centre) + radius * across, covariances)


def _narrow(mean: tuple[float, float], deviations: tuple[float, float], correlation: float) -> tuple:
    a, b = deviations
    return mean, ((a * a, correlation * a * b), (correlation * a * b, b * b))


def _rare() -> Gaussians:
    """Three narrow, tilted components between the ring and the crescent; two of them reach into those."""
    parts = [
        _narrow((-2.9, 1.1), (0.45, 0.30), 0.9),  # on the inner edge of the ring
        _narrow((0.1, 0.5), (0.50, 0.20), -0.85),  # in the open
        _narrow((1.6, -0.4), (0.25, 0.50), 0.8),  # over the tip of the crescent
    ]
    means, covariances = zip(*parts, strict=True)
    return Gaussians(np.array([0.4, 0.35, 0.25]), np.array(means), np.array(covariances))


CLASSES = {
    "ring": _along(np.arange(12) * np.pi / 6, 4.0, (0.0, 0.0), (0.45, 0.25)),
    "crescent": _along(np.linspace(-np.pi, 0, 9), 1.6, (0.2, -0.6), (0.35, 0.18)),
    "rare": _rare(),
}
"""True density of every class of ``mixture``."""


def _mixture(seed: int) -> Split:
    train, holdout = (_draw_classes(np.random.default_rng([seed, part])) for part in (0, 1))
    return Split(train, holdout, "class", "classification")


def _draw_classes(rng: np.random.Generator) -> pd.DataFrame:
    points = np.concatenate([draw(name, n, rng) for name, n in CLASS_ROWS.items()])
    names = np.repeat(np.array(list(CLASS_ROWS), dtype=object), list(CLASS_ROWS.values()))
    order = rng.permutation(len(names))
    return pd.DataFrame({"x": points[order, 0], "y": points[order, 1], "class": names[order]})


def draw(name: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Points ``(n, 2)`` of one class of ``mixture``."""
    return CLASSES[name].draw(n, rng)


def log_density(name: str, points: np.ndarray) -> np.ndarray:
    """True log density ``(N,)`` of one class of ``mixture`` at points ``(N, 2)``."""
    return CLASSES[name].log_density(np.asarray(points, dtype=np.float64))


@cache
def region_99(name: str) -> float:
    """Log density above which 99 % of a class lie, from a million draws of a fixed seed."""
    points = draw(name, _REGION_DRAWS, np.random.default_rng(99))
    return float(np.quantile(log_density(name, points), 0.01))


def outside(name: str, points: np.ndarray) -> float:
    """Share of points ``(N, 2)`` outside the densest region that holds 99 % of a class; 0.01 for the class itself."""
    return float((log_density(name, points) < region_99(name)).mean())


def sliced_wasserstein(points: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> float:
    """Distance of point sets ``(N, D)`` and ``(M, D)``: mean 1-Wasserstein distance along random directions.

    Each is taken between quantile functions (Rabin et al. 2012, with p = 1), so the sets may differ in size.
    """
    directions = rng.standard_normal((points.shape[1], _DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    levels = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    quantiles = []
    for rows in (points, truth):
        projected = np.sort(directions.T @ rows.T, axis=1)
        quantiles.append(projected[:, (levels * len(rows)).astype(int)])
    return float(np.abs(quantiles[0] - quantiles[1]).mean())


TABLES: dict[str, Callable[[int], Split]] = {
    "wine": _wine,
    "breast_cancer": _breast_cancer,
    "diabetes": _diabetes,
    "digits": _digits,
    "mixed": _mixed,
    "mixture": _mixture,
}
