"""Datasets by name, from four sources behind one interface.

* ``recorded:hopper-medium`` is made on this machine;
* ``d4rl:hopper-medium-v2`` is a file of D4RL;
* ``minari:mujoco/hopper/medium-v0`` is any dataset of Minari, ``minari:ID@ENV_ID`` evaluated in another environment;
* ``hdf5:run.hdf5@Hopper-v5`` is a user's file in D4RL's layout, and the environment it belongs to.

The last two may end with ``?actions=normalised``: actions lie in [-1, 1] whatever the environment's box is.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from cfdg_rl.datasets import d4rl, hdf5, minari
from cfdg_rl.datasets.catalogue import PUBLISHED, find_file, row_fault
from cfdg_rl.datasets.contents import digest_on_disk, looks_sparse_on_disk
from cfdg_rl.datasets.dataset import Dataset, split_option
from cfdg_rl.datasets.recorded import recording
from cfdg_rl.datasets.scores import ADROIT, FAMILIES, MAZES, family_of_environment, find_family

__all__ = [
    "Dataset",
    "content_digest",
    "dataset_names",
    "environment_of",
    "is_sparse",
    "load_dataset",
    "resolve_name",
    "suite",
]

OWN = ("minari", "hdf5")  # sources whose data are the user's
_MINARI = {"mujoco": FAMILIES, "D4RL": {"antmaze": None, "pointmaze": None} | ADROIT}  # its own names of the same tasks


def dataset_names() -> list[str]:
    """List every name that :func:`load_dataset` knows."""
    return [f"recorded:{name}" for name in recording.NAMES] + [f"d4rl:{name}" for name in d4rl.NAMES]


def suite(name: str) -> str:
    """Tell the kind of task from a dataset's name alone: "locomotion", "maze", "adroit" or "custom".

    Raises:
        ValueError: if there is no such dataset.
    """
    source, _, rest = resolve_name(name).partition(":")
    family = _own_family(source, rest) if source in OWN else find_family(rest)
    suites = {"locomotion": FAMILIES, "maze": MAZES.keys() | {"antmaze", "pointmaze"}, "adroit": ADROIT}
    return next((kind for kind, families in suites.items() if family in families), "custom")


def is_sparse(name: str) -> bool:
    """Tell if a task is sparse, as :attr:`Dataset.sparse` says: a maze, or own data with the rewards of one.

    Of own data only rewards and terminals are read; where there are none, the task is not sparse.

    Raises:
        ValueError: if there is no such dataset.
    """
    if suite(name) == "maze":
        return True
    source, _, rest = resolve_name(name).partition(":")
    return source in OWN and looks_sparse_on_disk(source, rest)


def content_digest(name: str) -> str:
    """Compute 16 hexadecimal digits of the files of own data, which may change under their name.

    Of an environment "module:ENV_ID" the module's own file is one of them.

    "" for the other sources, whose names stand for their contents, and for files that are not there.

    Raises:
        ValueError: if there is no such dataset.
    """
    source, _, rest = resolve_name(name).partition(":")
    return digest_on_disk(source, rest) if source in OWN else ""


def environment_of(name: str) -> str | None:
    """Tell the Gymnasium id of a dataset's environment from its name alone; None where only its file knows.

    Raises:
        ValueError: if there is no such dataset.
    """
    source, _, rest = resolve_name(name).partition(":")
    if source == "recorded":
        return recording.plan_recording(rest, None, 0).env_id
    if source == "d4rl":
        return PUBLISHED[rest].env_id
    return hdf5.split_name(rest).env_id if source == "hdf5" else minari.split_name(rest)[1]


def is_own(name: str) -> bool:
    """Tell if a whole name is of a source whose data are the user's."""
    return name.partition(":")[0] in OWN


def _own_family(source: str, rest: str) -> str | None:
    env_id = hdf5.split_name(rest).env_id if source == "hdf5" else minari.split_name(rest)[1]
    if env_id is not None:
        return family_of_environment(env_id)
    namespace, _, task = split_option(rest)[0].rpartition("/")[0].partition("/")
    return task if task in _MINARI.get(namespace, {}) else None


def resolve_name(name: str) -> str:
    """Complete a name: without a source it becomes ``recorded:``, and paths become absolute.

    Raises:
        ValueError: if there is no such dataset; the sentence offers near names.
    """
    full = name if ":" in name else f"recorded:{name}"
    source, _, rest = full.partition(":")
    if source == "minari":
        minari.split_name(rest)
    elif source == "hdf5":
        full = f"hdf5:{hdf5.split_name(rest).name}"
    elif full not in dataset_names():
        near = _near(source, rest)
        known = near or [*dataset_names(), "minari:ID", "hdf5:PATH@ENV_ID"]
        raise ValueError(f"no dataset {name!r}; {'near names' if near else 'known'}: {', '.join(known)}")
    return full


def _near(source: str, rest: str) -> list[str]:
    """Find at most three names like this one, of the same source if that is known."""
    same = [name for name in dataset_names() if name.startswith(f"{source}:")] or dataset_names()
    full = {name.partition(":")[2]: name for name in same}
    return [full[short] for short in difflib.get_close_matches(rest, full, n=3)]


def load_dataset(
    name: str,
    *,
    rows: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
    progress: bool = False,
    jobs: int = 1,
) -> Dataset:
    """Load a dataset. A recorded one is rolled out on first use, which takes half a minute, and cached.

    Its transitions ``(N,)`` are float32 on the CPU, with raw rewards; see :class:`Dataset`.

    Args:
        name: one of :func:`dataset_names`, of which ``recorded:`` may be left out, or a ``minari:`` or ``hdf5:`` name.
        rows: of a recorded set, rows to roll out (None: 200,000); of a replay and of another source, at most so many
            are taken from its beginning (None: all).
        seed: of the rollout; nothing else has one.
        cache: cache folder instead of $CFDG_CACHE, $XDG_CACHE_HOME/cfdg or ~/.cache/cfdg.
        progress: draw a bar during a rollout.
        jobs: processes for a rollout; with more than one, a calling script needs the ``__main__`` guard.

    Raises:
        ValueError: if the name is unknown, ``rows`` or ``jobs`` is below 1, or the file does not fit the task.
        FileNotFoundError: if a file is not there; nothing is downloaded.
        ImportError: if a Minari dataset is asked for and Minari is not installed.
    """
    full = resolve_name(name)
    if rows is not None and rows < 1:
        raise ValueError(f"rows is {rows}, expected at least 1")
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}, expected at least 1")
    source, _, short = full.partition(":")
    if source == "d4rl":
        return _load_d4rl(full, short, rows)
    if source in OWN:
        return (minari if source == "minari" else hdf5).load(full, rows)
    plan = recording.plan_recording(short, rows, seed)
    path = recording.ensure_recorded(plan, recording.cache_folder(cache), jobs=jobs, progress=progress)
    return _read_recorded(full, plan, path)


def _read_recorded(full: str, plan: recording.Recording, path: Path) -> Dataset:
    robot = plan.robot
    raw = d4rl.rows_of(path, recording.read_recording(path, plan), robot)
    transitions, returns = d4rl.split_rows(raw, robot)
    return Dataset(full, plan.env_id, transitions, returns, reference=robot.reference, sparse=robot.sparse)


def _load_d4rl(full: str, short: str, rows: int | None) -> Dataset:
    file = PUBLISHED[short]
    path = find_file(short)
    raw = d4rl.read_rows(path, file.family)
    fault = row_fault(file, len(raw.reward))
    if fault and file.rows and len(raw.reward) < file.rows:
        raise ValueError(f"{path} {fault}")
    family = file.family
    transitions = d4rl.to_transitions(raw, sparse=family.sparse)
    returns = d4rl.episode_returns(raw, sparse=family.sparse, rows=rows)
    whole = Dataset(full, file.env_id, transitions, returns, reference=family.reference, sparse=family.sparse)
    return whole.first(rows)
