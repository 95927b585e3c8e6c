"""Speed of reading a D4RL-sized HDF5 file, and of recording a dataset.

python benchmarks/data.py [--rows 1000000] [--record-rows 100000] [--jobs 2] [--json data.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from cfdg_rl.datasets import load_dataset
from cfdg_rl.datasets.d4rl import read_hdf5
from cfdg_rl.datasets.recorded import recording
from cfdg_rl.datasets.scores import FAMILIES


def large_file(folder: Path, rows: int, family: str) -> Path:
    """A file of the size and compression of D4RL's: the real columns of a small recording, repeated, gzip level 4."""
    plan = recording.plan_recording(f"{family}-medium", 20_000, 0)
    small = recording.ensure_recorded(plan, folder)
    path = folder / f"{family}-large.hdf5"
    with h5py.File(small) as source, h5py.File(path, "w") as target:
        for key in ("observations", "next_observations", "actions", "rewards", "terminals", "timeouts"):
            column = source[key][()]
            repeated = np.concatenate([column] * -(-rows // len(column)))[:rows]
            target.create_dataset(key, data=repeated, compression="gzip")
    return path


def time_read(folder: Path, rows: int, family: str) -> dict[str, object]:
    path = large_file(folder, rows, family)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        transitions, _ = read_hdf5(path, FAMILIES[family])
        seconds.append(time.perf_counter() - begin)
    return {
        "what": f"read {family}, {len(transitions):,} transitions",
        "seconds": min(seconds),
        "rows/s": rows / min(seconds),
    }


def time_record(folder: Path, rows: int, family: str, jobs: int) -> dict[str, object]:
    begin = time.perf_counter()
    load_dataset(f"recorded:{family}-medium", rows=rows, cache=folder, jobs=jobs)
    seconds = time.perf_counter() - begin
    return {
        "what": f"record {family}-medium, {rows:,} rows, {jobs} processes",
        "seconds": seconds,
        "rows/s": rows / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--record-rows", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [time_read(folder, arguments.rows, family) for family in FAMILIES]
        results += [time_record(folder, arguments.record_rows, family, arguments.jobs) for family in FAMILIES]
    for result in results:
        print(f"{result['what']:<52} {result['seconds']:>8.2f} s {result['rows/s']:>12,.0f} rows/s")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
