"""Minari's datasets, read through Minari's own library: ``minari:mujoco/hopper/medium-v0``.

An episode of T steps has T + 1 observations there, so the next observation of every row is known and no row is lost,
not even the one on which the time limit fell.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from cfdg_rl.datasets.d4rl import bounded_actions, finite
from cfdg_rl.datasets.dataset import Dataset, split_option
from cfdg_rl.datasets.scores import reference_of
from cfdg_rl.datasets.trajectories import looks_sparse
from cfdg_rl.envs.make import EnvShape, inspect_env
from cfdg_rl.transitions import Transitions

if TYPE_CHECKING:
    from types import ModuleType

    from gymnasium.envs.registration import EnvSpec

_NAMESPACE = "cfdg-minari/"  # of environments with arguments that a dataset has stored
_ID = re.compile(r"(?:[-\w]+/)*[-\w]+-v\d+")


def split_name(rest: str) -> tuple[str, str | None]:
    """Split "ID" or "ID@ENV_ID" into Minari's id and the environment id, None without one; an option is dropped.

    Raises:
        ValueError: if it is no such name.
    """
    dataset_id, mark, env_id = split_option(rest)[0].partition("@")
    if not _ID.fullmatch(dataset_id) or (mark and not env_id):
        raise ValueError(
            f"the name of a Minari dataset is {rest!r}, expected minari:ID or minari:ID@ENV_ID, with an ID such as "
            "mujoco/hopper/medium-v0"
        )
    return dataset_id, env_id or None


def load(name: str, rows: int | None) -> Dataset:
    """Load "minari:ID" or "minari:ID@ENV_ID" from Minari's folder; nothing is downloaded.

    Raises:
        ImportError: if Minari is not installed.
        FileNotFoundError: if the dataset is not there.
        ValueError: if its spaces are no boxes or it does not fit the environment.
    """
    rest = name.partition(":")[2]
    dataset_id, env_id = split_name(rest)
    stored = _find(dataset_id)
    env_id = env_id or _environment(name, stored.spec.env_spec)
    shape = inspect_env(env_id)
    if not isinstance(stored.action_space, spaces.Box):
        raise ValueError(f"{name} has actions {stored.action_space}, expected a box of real numbers")
    transitions, ends = _columns(name, stored, shape, normalised=bool(split_option(rest)[1]))
    sparse = looks_sparse(transitions.reward.numpy(), transitions.terminal.numpy())
    returns = _returns(transitions.reward.numpy(), [end for end in ends if rows is None or end[0] <= rows])
    reference = _reference(stored) or reference_of(env_id, sparse=sparse)
    return Dataset(name, env_id, transitions, returns, reference=reference, sparse=sparse).first(rows)


def library() -> ModuleType:
    """Import Minari, which is optional.

    Raises:
        ImportError: if it is not installed; the sentence says how to install it.
    """
    try:
        return importlib.import_module("minari")
    except ImportError as error:
        message = "Minari datasets need Python 3.11 or newer and Minari: pip install 'cfdg-rl[minari]'"
        raise ImportError(message) from error


def download(dataset_id: str) -> None:
    """Download a dataset into Minari's folder, by Minari itself.

    Raises:
        ImportError: if Minari is not installed.
        OSError: if Minari fails, with its reason.
    """
    fetch = library().download_dataset
    try:
        fetch(dataset_id)
    except Exception as error:  # Minari's clients raise errors of several libraries
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise OSError(f"minari:{dataset_id} could not be downloaded: {reason}") from error


def local_names() -> list[str]:
    """List the datasets in Minari's folder; none without Minari."""
    if importlib.util.find_spec("minari") is None:
        return []
    return [f"minari:{dataset_id}" for dataset_id in library().list_local_datasets()]


def files_of(dataset_id: str) -> list[Path]:
    """List the files of a dataset in Minari's folder, sorted; none where it is not there.

    Raises:
        ImportError: if Minari is not installed.
    """
    try:
        folder = Path(library().load_dataset(dataset_id).storage.data_path)
    except (FileNotFoundError, ValueError):
        return []
    return sorted(path for path in folder.rglob("*") if path.is_file())


def register_environment(env_id: str) -> None:
    """Register the environment of a dataset with arguments of its own, as :func:`load` does; others are left alone.

    Args:
        env_id: that of :attr:`~cfdg_rl.Dataset.env_id`, which only the dataset knows.

    Raises:
        ImportError: if Minari is not installed.
        FileNotFoundError: if the dataset is not there.
    """
    if not env_id.startswith(_NAMESPACE) or env_id in gymnasium.registry:
        return
    dataset_id = env_id.removeprefix(_NAMESPACE).replace(".", "/")  # which has no dots of its own
    try:
        stored = _find(dataset_id)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"environment {env_id!r} cannot be made without its dataset: {error}") from error
    _environment(f"minari:{dataset_id}", stored.spec.env_spec)


def stored_episodes(dataset_id: str) -> Iterator[Any]:
    """Yield the episodes of a dataset as Minari reads them; see :func:`load` for the errors."""
    yield from _find(dataset_id).iterate_episodes()


def _find(dataset_id: str) -> Any:  # noqa: ANN401 - a minari.MinariDataset, of a package that is optional
    try:
        return library().load_dataset(dataset_id)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no Minari dataset {dataset_id} in Minari's folder ($MINARI_DATASETS_PATH or ~/.minari/datasets): run "
            f"'cfdg-datasets download minari:{dataset_id}' or 'minari download {dataset_id}'"
        ) from error


def _environment(name: str, spec: EnvSpec | None) -> str:
    """Return the id of the data's environment, registered here if it has arguments of its own."""
    plain, option = split_option(name)
    dataset_id = plain.partition(":")[2]
    if spec is None:
        raise ValueError(f"{name} names no environment, expected {plain}@ENV_ID{option}")
    try:
        known = gymnasium.spec(spec.id)
    except gymnasium.error.Error:
        try:
            inspect_env(spec.id)  # knows where more environments are, and what to say
        except ValueError as error:
            named = f"{plain}@MODULE:{spec.id}{option}"
            raise ValueError(f"{error}; if a module of yours registers it, name it: {named}") from error
        known = gymnasium.spec(spec.id)
    if _arguments(spec) == _arguments(known):
        return spec.id
    own = _NAMESPACE + dataset_id.replace("/", ".")
    if own not in gymnasium.registry:
        limit, kwargs, wrappers = _arguments(spec)
        gymnasium.register(own, known.entry_point, max_episode_steps=limit, kwargs=kwargs, additional_wrappers=wrappers)
    return own


def _arguments(spec: EnvSpec) -> tuple[int | None, dict[str, Any], tuple[Any, ...]]:
    return spec.max_episode_steps, spec.kwargs, spec.additional_wrappers


def _columns(
    name: str,
    stored: Any,  # noqa: ANN401
    shape: EnvShape,
    *,
    normalised: bool,
) -> tuple[Transitions, list[tuple[int, bool]]]:
    """Read all rows; also each episode's end, the row after its last, and if it is complete."""
    parts: list[tuple[np.ndarray, ...]] = []
    ends: list[tuple[int, bool]] = []
    space = _ordered(stored.observation_space, shape.observation_space)
    for episode in stored.iterate_episodes():
        obs = flat_rows(space, episode.observations)
        parts.append((obs[:-1], episode.actions, episode.rewards, obs[1:], episode.terminations))
        complete = len(episode) > 0 and bool(episode.terminations[-1] or episode.truncations[-1])
        ends.append(((ends[-1][0] if ends else 0) + len(episode), complete))
    if not ends or ends[-1][0] == 0:
        raise ValueError(f"{name} has 0 rows, expected at least 1")
    columns = [np.concatenate(column).astype(np.float32) for column in zip(*parts, strict=True)]
    for key, column, width in (
        ("observations", columns[0], shape.obs_dim),
        ("actions", columns[1], shape.action_low.size),
    ):
        if column.ndim != 2 or column.shape[1] != width:
            raise ValueError(f"{name}: {key} have shape {column.shape}, expected (N, {width}) as its environment has")
    for key, column in zip(
        ("observations", "actions", "rewards", "observations", "terminations"), columns, strict=True
    ):
        finite(name, key, column)
    columns[1] = bounded_actions(name, columns[1] if normalised else shape.unit_actions(columns[1]))
    return Transitions(*(torch.from_numpy(column) for column in columns)), ends


def _ordered(stored: spaces.Space, live: spaces.Space) -> spaces.Space:
    """Choose the space with the environment's order of observations, which stored spaces do not keep."""
    both = isinstance(stored, spaces.Dict) and isinstance(live, spaces.Dict)
    return live if both and stored.spaces.keys() == live.spaces.keys() else stored


def flat_rows(space: spaces.Space, rows: Any) -> np.ndarray:  # noqa: ANN401 - an array, or a dict of such
    """Flatten the observations of T rows into ``(T, S)``, columns in the order of ``gymnasium.spaces.flatten``.

    Raises:
        ValueError: if the space is no box and no dict of boxes.
    """
    if isinstance(space, spaces.Dict):
        return np.concatenate([flat_rows(part, rows[key]) for key, part in space.spaces.items()], axis=1)
    if not isinstance(space, spaces.Box):
        raise ValueError(f"observations are {space}, expected a box or a dict of boxes")
    return np.asarray(rows).reshape(len(rows), -1)


def _returns(reward: np.ndarray, ends: list[tuple[int, bool]]) -> np.ndarray:
    """Sum the undiscounted returns ``(episodes,)`` of the complete episodes."""
    total = np.concatenate([[0.0], np.cumsum(reward, dtype=np.float64)])
    starts = [0, *(end for end, _ in ends)][: len(ends)]
    return np.array(
        [total[end] - total[start] for start, (end, complete) in zip(starts, ends, strict=True) if complete]
    )


def _reference(stored: Any) -> tuple[float, float] | None:  # noqa: ANN401
    metadata = stored.storage.metadata
    low = metadata.get("ref_min_score")
    high = metadata.get("ref_max_score")
    return None if low is None or high is None or low == high else (float(low), float(high))
