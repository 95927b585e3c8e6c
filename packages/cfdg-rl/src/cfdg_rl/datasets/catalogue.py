"""Catalogue of the files that D4RL publishes: names, addresses, row counts and local paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cfdg_rl.datasets.scores import ADROIT, FAMILIES, MAZES, Family, find_family

LEVELS = ("random", "medium-replay", "medium", "medium-expert")

_HOST = "http://rail.eecs.berkeley.edu/datasets/offline_rl"  # DATASET_URLS of D4RL's infos.py
_MAZE_FILES = {  # play has one goal, diverse many; D4RL calls medium "big" and large "hardest"
    "umaze": "u-maze_noisy_multistart_False_multigoal_False",
    "umaze-diverse": "u-maze_noisy_multistart_True_multigoal_True",
    "medium-play": "big-maze_noisy_multistart_True_multigoal_False",
    "medium-diverse": "big-maze_noisy_multistart_True_multigoal_True",
    "large-play": "hardest-maze_noisy_multistart_True_multigoal_False",
    "large-diverse": "hardest-maze_noisy_multistart_True_multigoal_True",
}
_ROWS = {  # raw rows; the sources differ by up to a hundred, because some count whole episodes only
    "halfcheetah": {"random": 1_000_000, "medium-replay": 202_000, "medium": 1_000_000, "medium-expert": 2_000_000},
    "hopper": {"random": 999_996, "medium-replay": 402_000, "medium": 999_906, "medium-expert": 1_999_906},
    "walker2d": {"random": 999_997, "medium-replay": 302_000, "medium": 999_995, "medium-expert": 1_999_995},
}
_MAZE_ROWS = 1_000_000
_ROW_SLACK = 1e-3  # of the published number: above what the sources differ by, far below a broken-off file


@dataclass(frozen=True)
class Published:
    """One file of D4RL.

    Attributes:
        name: D4RL's name, such as "antmaze-medium-play-v2".
        path: below the host's folder, such as "gym_mujoco_v2/hopper_medium-v2.hdf5".
        family: widths, time limit and reference returns.
        env_id: the environment in which its policies are evaluated.
        rows: published number of raw rows; None where it is unknown.
    """

    name: str
    path: str
    family: Family
    env_id: str
    rows: int | None

    def url(self, base: str | None = None) -> str:
        """Build the address at D4RL's host, or below ``base`` or $CFDG_D4RL_URL if a mirror is named there."""
        return f"{(base or os.environ.get('CFDG_D4RL_URL') or _HOST).rstrip('/')}/{self.path}"

    @property
    def local(self) -> Path:
        """Path on this machine, whether the file exists or not."""
        return dataset_folder() / self.path.rpartition("/")[2]


def _locomotion(family: str, level: str) -> Published:
    path = f"gym_mujoco_v2/{family}_{level.replace('-', '_')}-v2.hdf5"
    robot = FAMILIES[family]
    return Published(f"{family}-{level}-v2", path, robot, f"{robot.env}-v4", _ROWS[family][level])


def _maze(kind: str) -> Published:
    name = f"antmaze-{kind}-v2"
    path = f"ant_maze_v2/Ant_maze_{_MAZE_FILES[kind]}_sparse_fixed.hdf5"
    maze = MAZES[find_family(name) or ""]
    return Published(name, path, maze, maze.env, _MAZE_ROWS)


def _hand(task: str) -> Published:
    name = f"{task}-human-v1"
    return Published(name, f"hand_dapg_v1/{name}.hdf5", ADROIT[task], ADROIT[task].env, None)


_FILES = (
    *(_locomotion(family, level) for family in FAMILIES for level in LEVELS),
    *(_maze(kind) for kind in _MAZE_FILES),
    *(_hand(task) for task in ADROIT),
)
PUBLISHED = {file.name: file for file in _FILES}


def dataset_folder() -> Path:
    """Return D4RL's own folder: $D4RL_DATASET_DIR or ~/.d4rl/datasets."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets").expanduser()


def find_file(name: str) -> Path:
    """Find the file of a D4RL dataset such as ``hopper-medium-v2``; nothing is downloaded.

    Raises:
        FileNotFoundError: if it is not there; the sentence says how to get it.
    """
    file = PUBLISHED[name]
    if not file.local.is_file():
        raise FileNotFoundError(
            f"{file.local} does not exist: run 'cfdg-datasets download d4rl:{name}', or put {file.url()} into "
            f"{file.local.parent} yourself, or set D4RL_DATASET_DIR to the folder that has it"
        )
    return file.local


def row_fault(file: Published, rows: int) -> str | None:
    """Compare raw rows with the published number; the fault as the rest of a sentence, None if there is none."""
    if file.rows is None or abs(rows - file.rows) <= _ROW_SLACK * file.rows:
        return None
    reason = "it is incomplete, download it again" if rows < file.rows else "it is another file"
    return f"has {rows:,} rows, expected {file.rows:,} of {file.name}: {reason}"
