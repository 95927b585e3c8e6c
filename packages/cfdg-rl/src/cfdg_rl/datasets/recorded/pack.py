"""Packer of the raw files of behaviour training into the files that this package ships.

    python -m cfdg_rl.datasets.recorded.pack RAW_DIR OUT_DIR

RAW_DIR holds, per environment, the files of ``python -m cfdg_rl.datasets.recorded.train_behaviour``: ENV.npz with the
actors of all stages, ENV.json with their returns and ENV-replay.npz with the rows of the run up to a stage.
OUT_DIR receives ENV-actors.npz with two actors, ``medium``, the stage whose return is nearest a third of the last
one's, and ``expert``, the last stage; and ENV-replay.npz with the rows in 16-bit fixed point.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cfdg_rl.datasets.recorded.actor import select_actor
from cfdg_rl.datasets.recorded.replay import pack_replay
from cfdg_rl.datasets.recorded.train_behaviour import nearest_a_third
from cfdg_rl.files import load_arrays, save_arrays


def pack(raw: Path, out: Path) -> list[Path]:
    """Pack every environment of ``raw`` into ``out``.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: if ``raw`` holds no ENV.npz with its ENV-replay.npz.
        ValueError: if a replay does not end at a stage, or arrays are missing.
    """
    actors = sorted(path for path in raw.glob("*.npz") if not path.stem.endswith("-replay"))
    if not actors:
        raise FileNotFoundError(f"{raw} holds no ENV.npz: train behaviour policies into it first")
    written = []
    for path in actors:
        replay = load_arrays(raw / f"{path.stem}-replay.npz")
        scores = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        packed = {
            "actors": pack_actors(load_arrays(path), nearest_a_third(scores), len(replay["reward"])),
            "replay": pack_replay(replay),
        }
        for kind, arrays in packed.items():
            written.append(out / f"{path.stem}-{kind}.npz")
            save_arrays(written[-1], arrays)
    return written


def pack_actors(arrays: Mapping[str, np.ndarray], medium: int, replay_rows: int) -> dict[str, np.ndarray]:
    """Pick the actors ``medium`` and ``expert``, with their ``step``, out of those named by their steps.

    Raises:
        ValueError: if ``medium`` is no stage, or the replay does not end at one, at the medium stage or later.
    """
    stages = {int(name.split("/")[0]): name.split("/")[0] for name in arrays}
    if medium not in stages:
        raise ValueError(f"the medium stage is {medium}, expected one of {sorted(stages)}")
    if replay_rows not in stages or replay_rows < medium:
        raise ValueError(f"the replay has {replay_rows} rows, expected one of {sorted(stages)}, at least {medium}")
    packed = {}
    for level, step in (("medium", medium), ("expert", max(stages))):
        packed[f"{level}/step"] = np.array(step)
        weights = select_actor(arrays, stages[step]).weights
        packed.update({f"{level}/{name}": array for name, array in weights.items()})
    return packed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 2 with one sentence on standard error if the raw files cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m cfdg_rl.datasets.recorded.pack",
        description="Pack trained behaviour policies and their replay for shipping.",
    )
    parser.add_argument("raw", type=Path, help="folder with ENV.npz and ENV-replay.npz")
    parser.add_argument("out", type=Path, help="folder for ENV-actors.npz and ENV-replay.npz")
    arguments = parser.parse_args(argv)
    try:
        written = pack(arguments.raw, arguments.out)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for path in written:
        sys.stdout.write(f"{path}  {path.stat().st_size / 1e6:.2f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
