"""Curves of a cell, while it runs and when it is finished, and the file of a finished one."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfdg_experiments.storage.json_digest import json_digest
from cfdg_rl.files import atomic_write
from cfdg_rl.tensor_files import CHECKSUM

FORMAT = 1
LATE_EVALUATIONS = 10  # evaluations averaged by CellResult.late


class CellKey(NamedTuple):
    """The place of a cell in a table."""

    dataset: str
    algorithm: str
    arm: str

    @property
    def name(self) -> str:
        """``dataset/algorithm/arm``, for messages and run names."""
        return "/".join(self)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores and other metrics of R replicas at one environment step.

    Attributes:
        step: environment steps so far.
        scores: ``(R,)`` normalised scores.
        metrics: other values by name, each ``(R,)``.
        seeds: of the R replicas where they are some of the cell's seeds; None for all of them.
    """

    step: int
    scores: np.ndarray
    metrics: Mapping[str, np.ndarray]
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class CellResult:
    """The curves of one (dataset, algorithm, arm), R seeds and K evaluations.

    Attributes:
        dataset: with its source, such as ``recorded:hopper-medium``.
        algorithm: ``iql``, ``pex`` or ``apl``.
        arm: ``base`` or ``cfdg`` (or another arm of an ablation).
        seeds: R seeds, the order of every first axis.
        steps: ``(K,)`` environment steps of the evaluations, increasing; 0 is the pre-trained agent.
        scores: ``(R, K)`` normalised score, 0 a random policy and 100 the expert.
        behaviour_score: mean normalised score of the dataset's own episodes; NaN where it is not known.
        seconds: wall time of the cell, in seconds.
        metrics: other curves against ``steps``, each ``(R, K)`` or ``(K,)``; NaN where a value does not exist.

    Raises:
        ValueError: if shapes disagree, a score is not finite or the steps do not increase.
    """

    dataset: str
    algorithm: str
    arm: str
    seeds: tuple[int, ...]
    steps: np.ndarray
    scores: np.ndarray
    behaviour_score: float
    seconds: float
    metrics: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        object.__setattr__(self, "steps", np.asarray(self.steps, dtype=np.int64))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        object.__setattr__(self, "metrics", {key: np.asarray(v, dtype=np.float64) for key, v in self.metrics.items()})
        self._check()

    def _check(self) -> None:
        shape = (len(self.seeds), len(self.steps) if self.steps.ndim == 1 else -1)
        if self.scores.shape != shape or 0 in shape:
            raise ValueError(f"{self.name}: scores have shape {self.scores.shape}, expected {shape} (seeds, steps)")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"{self.name}: seeds is {self.seeds}, expected every seed once")
        if np.any(np.diff(self.steps) <= 0):
            raise ValueError(f"{self.name}: steps is {self.steps.tolist()}, expected increasing steps")
        if not np.all(np.isfinite(self.scores)):
            raise ValueError(f"{self.name}: a score is not finite, expected finite scores")
        for key, values in self.metrics.items():
            if values.shape not in (shape, shape[1:]):
                expected = f"expected {shape} or {shape[1:]}"
                raise ValueError(f"{self.name}: metric {key!r} has shape {values.shape}, {expected}")

    @property
    def key(self) -> CellKey:
        """Place of the cell in the table."""
        return CellKey(self.dataset, self.algorithm, self.arm)

    @property
    def name(self) -> str:
        """``dataset/algorithm/arm``, for messages and run names."""
        return self.key.name

    @property
    def offline(self) -> np.ndarray:
        """Scores ``(R,)`` of the first evaluation, before any online step."""
        return self.scores[:, 0]

    @property
    def final(self) -> np.ndarray:
        """Scores ``(R,)`` of the last evaluation."""
        return self.scores[:, -1]

    @property
    def late(self) -> np.ndarray:
        """Mean scores ``(R,)`` of the last up to 10 evaluations, without step 0 unless it is the only one."""
        online = self.scores[:, self.steps > 0]
        return online[:, -LATE_EVALUATIONS:].mean(axis=1) if online.shape[1] else self.final

    def to_json(self, path: Path) -> None:
        """Write the cell with a SHA-256 of its content; NaN becomes null."""
        values = {"format": FORMAT} | {item.name: plain(getattr(self, item.name)) for item in fields(self)}
        write_json(path, values | {CHECKSUM: json_digest(values)})

    @classmethod
    def from_json(cls, path: Path, key: CellKey | None = None) -> CellResult:
        """Read what :meth:`to_json` wrote; with ``key``, of that cell alone.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is no JSON, of another format or cell, damaged, or lacks a key or has one too many.
        """
        values = _read_object(path)
        written = values.pop(CHECKSUM, None)  # a file of version 0.3 has none
        digest = json_digest(values)
        if (found := values.pop("format", None)) != FORMAT:
            raise ValueError(f"result {path} has format {found!r}, expected {FORMAT}")
        expected = {item.name for item in fields(cls)}
        if values.keys() != expected:
            wrong = sorted(values.keys() ^ expected)
            raise ValueError(f"result {path} has missing or unknown keys {wrong}, expected {sorted(expected)}")
        if written not in (None, digest):
            raise ValueError(f"result {path} is damaged: its content does not have the SHA-256 that is written in it")
        try:
            found = cls(**_arrays(values))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"result {path} is damaged: {error}") from error
        if key is not None and key != found.key:
            raise ValueError(f"result {path} is of the cell {found.name}, expected {key.name}: delete it")
        return found


class Curves:
    """The evaluations of a cell so far; a metric that an evaluation lacks is NaN there.

    Args:
        seeds: R seeds of the cell.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)
        self.steps: list[int] = []
        self._rows: dict[str, list[list[float]]] = defaultdict(list)  # by name and evaluation, R values

    def add(self, evaluation: Evaluation) -> None:
        """Append an evaluation."""
        for name, values in {"score": evaluation.scores, **evaluation.metrics}.items():
            self._padded(name).append([float(value) for value in values])
        self.steps.append(evaluation.step)

    def result(self, key: CellKey, *, behaviour_score: float, seconds: float) -> CellResult:
        """Return the curves so far, each ``(R, K)``, as the result of a cell."""
        curves = {name: np.array(self._padded(name)).T for name in self._rows}
        return CellResult(
            *key,
            seeds=self.seeds,
            steps=np.array(self.steps),
            scores=curves.pop("score"),
            behaviour_score=behaviour_score,
            seconds=seconds,
            metrics=curves,
        )

    def state(self) -> dict[str, Any]:
        """Return the evaluations for a checkpoint."""
        return {"curves": dict(self._rows), "steps": list(self.steps)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state`; other entries of the checkpoint are left alone."""
        self._rows = defaultdict(list, {name: list(rows) for name, rows in state["curves"].items()})
        self.steps = list(state["steps"])

    def _padded(self, name: str) -> list[list[float]]:
        """Fill a curve, in place, with NaN for the evaluations at which its metric did not exist."""
        rows = self._rows[name]
        missing = [math.nan] * len(self.seeds)
        rows.extend([missing] * (len(self.steps) - len(rows)))
        return rows


def _read_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"result {path} does not exist")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"result {path} is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"result {path} is a {type(values).__name__}, expected an object")
    return values


def _arrays(values: dict[str, Any]) -> dict[str, Any]:
    """Undo :func:`plain`: null is NaN where a NaN may stand; a null score is refused by the check that follows."""
    metrics = {key: np.asarray(curve, dtype=np.float64) for key, curve in values["metrics"].items()}
    behaviour = values["behaviour_score"]
    return values | {"metrics": metrics, "behaviour_score": math.nan if behaviour is None else float(behaviour)}


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can say
    """Turn arrays and tuples into lists, NaN and infinities into None, at every depth."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Write strict JSON under a temporary name and rename it."""
    write_text(path, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with Unix line ends under a temporary name and rename it."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: ``path`` is the old file or the new one."""
    with atomic_write(path) as draft:  # keeps the suffix, which may choose a format
        write(draft)
