"""Commands for trained policies: ``cfdg policies`` lists them, ``cfdg play`` and ``cfdg export`` use them.

What the commands need is imported when one of them runs, so that ``cfdg --help`` stays quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cfdg_experiments.cells.policy_store import StoredPolicy

FORMATS = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"}
_RUN = "a policy's file, or a part of the name of one cell: cfdg policies lists the names"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the three commands to the parser of ``cfdg``."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--out", type=Path, default=Path("runs"), help="the folder of table1 (default: runs)")
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("run", metavar="RUN", help=_RUN)
    chosen.add_argument("--seed", type=int, help="the policy of this seed (default: the best of all)")
    chosen.add_argument("--final", action="store_true", help="the final policy, not the one that was evaluated best")
    listed = commands.add_parser("policies", parents=[own], help="list the trained policies of finished cells")
    listed.set_defaults(command=list_policies)
    played = commands.add_parser("play", parents=[own, chosen], help="play episodes with a trained policy")
    played.add_argument("--episodes", type=int, default=5, help="how many (default: %(default)s)")
    played.add_argument("--first-states", type=int, default=0, metavar="SEED", help="seed of the episodes' starts")
    played.add_argument("--video", type=Path, metavar="FILE.mp4", help="film the episodes; needs the extra 'video'")
    played.set_defaults(command=play_policy)
    about = "write a trained policy for use without these packages"
    exported = commands.add_parser("export", parents=[own, chosen], help=about)
    exported.add_argument("--format", choices=FORMATS, default="onnx", help="default: %(default)s")
    exported.add_argument("--to", type=Path, metavar="FILE", help="default: a name of the cell in this folder")
    exported.set_defaults(command=export_stored)


def list_policies(arguments: argparse.Namespace) -> int:
    """Print a line for each policy."""
    from cfdg_experiments.cells.policy_store import FOLDER, stored_policies

    found = stored_policies(arguments.out)
    if not found:
        raise ValueError(f"{arguments.out / FOLDER} holds no policies, expected a folder of 'cfdg table1'")
    width = max(len(policy.name) for policy in found)
    for policy in found:
        facts = policy.facts
        line = f"{policy.name:{width}}  {facts.algorithm:5}  step {facts.step or 0:>9,}  score {policy.score:7.1f}"
        sys.stdout.write(f"{line}  {facts.env_id}  {policy.origin}".rstrip() + "\n")
    return 0


def play_policy(arguments: argparse.Namespace) -> int:
    """Play episodes and print their returns."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # to draw without a screen; MuJoCo reads it when it is imported
    from cfdg_experiments.play import play, scale_of
    from cfdg_rl.datasets.scores import on_scale
    from cfdg_rl.policy_file import load_policy

    if arguments.episodes < 1:
        raise ValueError(f"--episodes is {arguments.episodes}, expected at least 1")
    if arguments.first_states < 0:
        raise ValueError(f"--first-states is {arguments.first_states}, expected at least 0")
    stored = _chosen(arguments)
    policy = load_policy(stored.path)
    reference = scale_of(policy.facts)
    returns = []
    sys.stdout.write(f"{stored.path} in {policy.facts.env_id}\n")
    options = {"episodes": arguments.episodes, "seed": arguments.first_states, "video": arguments.video}
    for total, steps in play(policy, **options):
        returns.append(total)
        score = "" if reference is None else f", score {float(on_scale(reference, total)):.1f}"
        sys.stdout.write(f"episode {len(returns)}: return {total:.2f} in {steps} steps{score}\n")
        sys.stdout.flush()
    sys.stdout.write(f"mean return {sum(returns) / len(returns):.2f}\n")
    if arguments.video is not None:
        sys.stdout.write(f"film: {arguments.video.with_suffix('.mp4')}\n")
    return 0


def export_stored(arguments: argparse.Namespace) -> int:
    """Write a policy in another format, and say how exactly the file acts as the policy."""
    from cfdg_rl.policy_export import export_policy
    from cfdg_rl.policy_file import load_policy

    stored = _chosen(arguments)
    path = arguments.to or Path(f"{stored.cell}-{stored.path.stem}{FORMATS[arguments.format]}")
    difference = export_policy(load_policy(stored.path), path, arguments.format)
    facts = stored.facts
    sys.stdout.write(f"{path}: acts as {stored.path}, largest difference of an action {difference:.1g}\n")
    sys.stdout.write(f"{facts.algorithm} in {facts.env_id}, seed {facts.seed}, {stored.origin or 'origin not known'}\n")
    return 0


def _chosen(arguments: argparse.Namespace) -> StoredPolicy:
    from cfdg_experiments.cells.policy_store import find_policy

    return find_policy(arguments.out, arguments.run, seed=arguments.seed, final=arguments.final)
