"""Environment steps per second, against the number of workers and against Gymnasium's own ways.

Every way plays random actions in the same number of copies of an environment and begins new episodes where old ones
end. ``loop`` calls Gymnasium's ``step`` one copy at a time; ``sync`` and ``async`` are its vector environments, the
latter with a process per copy. All take turns, and ratios are medians over the turns, so that they hold on a noisy
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

from cfdg_rl.envs import make_env
from cfdg_rl.envs.native import HAS_BATCH, TASKS
from cfdg_rl.envs.stack import EnvStack

ENVS = ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "cfdg/AntMazeUMaze-v2", "cfdg/PointMazeUMaze-v0")
Way = tuple[Callable[[np.ndarray], None], Callable[[], None]]  # step all copies once; close


def stacked(env_id: str, copies: int, workers: int) -> Way:
    stack = EnvStack(env_id, range(copies), workers)
    everyone = np.arange(copies)

    def step(actions: np.ndarray) -> None:
        _, terminated, truncated = stack.step(actions, everyone)
        stack.reset(np.flatnonzero(terminated | truncated))

    return step, stack.close


def looped(env_id: str, copies: int) -> Way:
    envs = [make_env(env_id) for _ in range(copies)]
    for seed, env in enumerate(envs):
        env.reset(seed=seed)

    def step(actions: np.ndarray) -> None:
        for env, action in zip(envs, actions, strict=True):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return step, lambda: [env.close() for env in envs] and None


def vectorised(env_id: str, copies: int, kind: type[gymnasium.vector.VectorEnv]) -> Way:
    vector = kind([lambda: make_env(env_id)] * copies)
    vector.reset(seed=list(range(copies)))
    return lambda actions: vector.step(actions) and None, vector.close


def ways(env_id: str, copies: int, workers: list[int], processes: bool) -> dict[str, Way]:
    made = {"loop": looped(env_id, copies), "sync": vectorised(env_id, copies, gymnasium.vector.SyncVectorEnv)}
    if processes:
        made["async"] = vectorised(env_id, copies, gymnasium.vector.AsyncVectorEnv)
    return made | {f"{count} workers": stacked(env_id, copies, count) for count in workers}


def rate(step: Callable[[np.ndarray], None], actions: np.ndarray, seconds: float) -> float:
    """Environment steps per wall second."""
    began = time.perf_counter()
    count = 0
    while time.perf_counter() - began < seconds:
        step(actions[count % len(actions)])
        count += 1
    return count * actions.shape[1] / (time.perf_counter() - began)


def measure(env_id: str, copies: int, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Steps per second of every way, turn by turn."""
    env = make_env(env_id)
    shape = (256, copies, *env.action_space.shape)
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    env.close()
    made = ways(env_id, copies, arguments.workers, arguments.processes)
    samples: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(arguments.turns + 1):
        for name, (step, _) in made.items():
            samples[name].append(rate(step, actions, arguments.seconds if turn else arguments.seconds / 4))
    for _, close in made.values():
        close()
    return {name: values[1:] for name, values in samples.items()}  # the first turn warms up


def report(env_id: str, copies: int, samples: dict[str, list[float]]) -> dict[str, object]:
    """Print one line per way and return its numbers."""
    path = "native" if env_id in TASKS else "Gymnasium's step"
    print(f"\n{env_id}, {copies} copies ({path})\n{'':12}{'steps/s':>10}{'to loop':>10}")
    numbers = {}
    for name, values in samples.items():
        ratio = statistics.median(ours / loop for ours, loop in zip(values, samples["loop"], strict=True))
        numbers[name] = {"steps_per_second": statistics.median(values), "ratio_to_loop": ratio}
        print(f"{name:12}{statistics.median(values):10.0f}{ratio:10.2f}")
    return {"env": env_id, "copies": copies, "ways": numbers}


def exists(env_id: str) -> bool:
    try:
        make_env(env_id).close()
    except (ValueError, ModuleNotFoundError) as error:
        print(f"\n{env_id} skipped: {error}")
        return False
    return True


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    doublings = sorted({*(2**k for k in range(cores.bit_length()) if 2**k <= cores), cores})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=list(ENVS))
    parser.add_argument("--copies", type=int, nargs="+", default=[5, 15, 50])
    parser.add_argument("--workers", type=int, nargs="+", default=doublings, help=f"default: {doublings}")
    parser.add_argument("--seconds", type=float, default=0.5, help="per measurement")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--no-async", dest="processes", action="store_false", help="without a process per copy")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    versions = f"{cores} cores, MuJoCo {mujoco.__version__}{'' if HAS_BATCH else ' (without mujoco.batch)'}"
    print(f"{versions}, Gymnasium {gymnasium.__version__}")
    cases = [(env_id, copies) for env_id in arguments.envs if exists(env_id) for copies in arguments.copies]
    results = [report(*case, measure(*case, arguments)) for case in cases]
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
