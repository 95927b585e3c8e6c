"""The embedded datasets: made on this machine on first use, then kept in D4RL's layout.

Those of locomotion come from shipped behaviour policies. Their levels follow D4RL's definitions: ``random`` an
untrained actor, ``medium`` an actor part-way through training, ``medium-replay`` all rows of this actor's training
until then, ``medium-expert`` half medium, half expert.
Those of the point mazes come from a planner; see :mod:`cfdg_rl.datasets.recorded.mazes` for their levels.
"""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

from cfdg_rl.datasets.catalogue import LEVELS
from cfdg_rl.datasets.checksums import read_checked, write_hdf5
from cfdg_rl.datasets.recorded.actor import Actor, fresh_actor, select_actor
from cfdg_rl.datasets.recorded.mazes import MazeData, record_maze
from cfdg_rl.datasets.recorded.replay import unpack_replay
from cfdg_rl.datasets.recorded.rollout import Columns, record
from cfdg_rl.datasets.scores import FAMILIES, MAZES, Family, find_family
from cfdg_rl.files import load_arrays
from cfdg_rl.locks import locked
from cfdg_rl.streams import derive_seed

MAZE_NAMES = (
    "pointmaze-umaze",
    "pointmaze-medium-play",
    "pointmaze-medium-diverse",
    "pointmaze-large-play",
    "pointmaze-large-diverse",
)
NAMES = (*(f"{family}-{level}" for family in FAMILIES for level in LEVELS), *MAZE_NAMES)
DEFAULT_ROWS = 200_000  # a fifth of a D4RL set: half a minute to record
FORMAT = 2  # raise it when the same name, rows and seed no longer give the same file
MAZE_FORMAT = 3  # the same for mazes; 3: paid within the environment's own reach

_BEHAVIOUR = Path(__file__).parent / "behaviour"
_POLICIES = {"random": ("random",), "medium": ("medium",), "medium-expert": ("medium", "expert")}


@dataclass(frozen=True)
class Recording:
    """Identity of a recorded file.

    Attributes:
        family: a key of ``FAMILIES`` or ``MAZES``.
        level: one of D4RL's four levels; of a maze "play", "diverse" or, for the only level of a maze, "".
        rows: rows of the file.
        seed: of the rollout.
    """

    family: str
    level: str
    rows: int
    seed: int

    @property
    def file_name(self) -> str:
        """Name in the cache; two recordings that differ never share it."""
        seed = "" if self.level == "medium-replay" else f"-seed{self.seed}"
        return f"{self.name}-rows{self.rows}{seed}-v{self.format}.hdf5"

    @property
    def format(self) -> int:
        """Version of the contents: recordings of another one are other data."""
        return MAZE_FORMAT if self.robot.sparse else FORMAT

    @property
    def name(self) -> str:
        """The dataset's name without its source."""
        return f"{self.family}-{self.level}".rstrip("-")

    @property
    def robot(self) -> Family:
        """Widths and reference returns."""
        return (FAMILIES | MAZES)[self.family]

    @property
    def env_id(self) -> str:
        """The environment it is recorded and evaluated in."""
        return self.robot.env if self.robot.sparse else f"{self.robot.env}-v5"


def plan_recording(name: str, rows: int | None, seed: int) -> Recording:
    """Plan the recording of a name such as ``hopper-medium``.

    Args:
        name: one of ``NAMES``.
        rows: None takes all rows of a replay and ``DEFAULT_ROWS`` of a rollout; a replay has no more than it has.
        seed: a non-negative integer; a replay has none.

    Raises:
        ValueError: if the rows cannot hold one episode per policy or do not fit in this machine's memory, or the seed
            is negative.
    """
    family = find_family(name) or name
    level = name[len(family) + 1 :]
    recording = Recording(family, level, rows or DEFAULT_ROWS, seed)
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected a non-negative integer")
    if (rows or 0) > (most := most_rows(recording.robot)):
        raise ValueError(f"rows is {rows} for recorded:{name}, expected at most {most:,}: more do not fit in memory")
    policies = len(_POLICIES.get(level, ("one",)))
    least = policies * recording.robot.max_episode_steps
    if rows is not None and rows < least:
        raise ValueError(
            f"rows is {rows} for recorded:{name}, expected at least {least:,}, {policies} x one whole episode"
        )
    if level == "medium-replay":
        stored = replay_rows(recording.env_id)
        return Recording(family, level, min(rows or stored, stored), 0)
    return recording


def most_rows(robot: Family) -> int:
    """Count the rows of a robot or maze that this machine's memory holds twice, in parts and joined."""
    numbers = 4 * robot.obs_dim + robot.action_dim + 1  # s, s', positions and velocities, a, r: each at most 4 bytes
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        memory = 1 << 40
    return memory // (8 * numbers)


def cache_folder(cache: Path | None = None) -> Path:
    """Return the folder of the recorded files: ``datasets`` below ``cache``, $CFDG_CACHE or $XDG_CACHE_HOME/cfdg."""
    if cache is None:
        user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = Path(os.environ.get("CFDG_CACHE") or Path(user) / "cfdg")
    return Path(cache).expanduser() / "datasets"


def ensure_recorded(recording: Recording, folder: Path, *, jobs: int = 1, progress: bool = False) -> Path:
    """Return the file of a recording, and make it first if it does not exist; another process that does is waited for.

    Raises:
        OSError: if the folder cannot be written; said before the work.
    """
    path = folder / recording.file_name
    if not path.is_file():
        _check_writable(folder)
        with locked(path.with_suffix(".lock"), f"the recording of {path}", wait=True):
            if not path.is_file():  # the one that was waited for may have made it
                write_hdf5(path, _columns(recording, jobs, progress), _metadata(recording))
    return path


def read_recording(path: Path, recording: Recording) -> Columns:
    """Read the columns of a file, unless it is another recording than its name says, or its content was changed.

    Raises:
        ValueError: naming the file and what differs.
    """
    return read_checked(path, _identity(recording), recording.rows)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        reason = error.strerror or error
        hint = "set CFDG_CACHE to a folder that can"
        raise OSError(f"cache folder {folder} cannot be written ({reason}): {hint}") from error


def _columns(recording: Recording, jobs: int, progress: bool) -> Columns:
    rows = recording.rows
    seed = recording.seed
    if recording.robot.sparse:
        data = MazeData(recording.family.partition("-")[2], recording.level, recording.robot.max_episode_steps)
        return record_maze(data, rows, seed, jobs=jobs, progress=progress)
    if recording.level == "medium-replay":
        return replay_columns(recording)
    return record(recording.env_id, behaviour_actors(recording), rows, seed, jobs=jobs, progress=progress)


def behaviour_actors(recording: Recording) -> list[Actor]:
    """Load the policies of a level, in the order of their rows."""
    rng = np.random.default_rng(derive_seed(recording.seed, "untrained actor"))
    robot = recording.robot
    if recording.level == "random":
        return [fresh_actor(robot.obs_dim, robot.action_dim, rng)]
    arrays = load_arrays(_BEHAVIOUR / f"{recording.env_id}-actors.npz")
    return [select_actor(arrays, stage) for stage in _POLICIES[recording.level]]


def replay_rows(env_id: str) -> int:
    """Count the replay rows shipped for an environment."""
    with np.load(_BEHAVIOUR / f"{env_id}-replay.npz", allow_pickle=False) as file:
        return len(file["terminal"])


def replay_columns(recording: Recording) -> Columns:
    """Unpack the first rows of the shipped replay, in D4RL's names."""
    replay = unpack_replay(load_arrays(_BEHAVIOUR / f"{recording.env_id}-replay.npz"))
    rows = recording.rows
    next_obs = np.roll(replay["obs"], -1, axis=0)
    next_obs[replay["end_row"]] = replay["end_next_obs"]
    columns = {
        "observations": replay["obs"],
        "next_observations": next_obs,
        "actions": replay["action"],
        "rewards": replay["reward"],
        "terminals": replay["terminal"],
        "timeouts": replay["timeout"],
    }
    return {key: column[:rows] for key, column in columns.items()}


def _metadata(recording: Recording) -> dict[str, str | int]:
    return _identity(recording) | {
        "mujoco": mujoco.__version__,
        "gymnasium": gymnasium.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }


def _identity(recording: Recording) -> dict[str, str | int]:
    """Return the metadata in which no two recordings agree that differ."""
    return {
        "generator": "cfdg_rl.datasets.recorded",
        "format": recording.format,
        "environment": recording.env_id,
        "level": recording.level,
        "seed": recording.seed,
    }
