"""How many IQL updates a second does one core do, stacked in replicas, against one plain network at a time?

The plain learner is written the way the public PyTorch code of the field is: separate ``nn.Sequential`` networks,
three Adam optimisers, a Python loop for the Polyak average. It runs here, in the same process, so that the ratios
hold on a noisy machine.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.iql import IQL, PEX_REPOSITORY
from cfdg_rl.mixing import OFFLINE, Pools, draw
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, row_width, to_rows

OBS, ACTION, ROWS = 11, 3, 100_000  # Hopper


def plain_network(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainIQL:
    """One IQL learner, one network at a time."""

    def __init__(self, width: int) -> None:
        self.value = plain_network(OBS, width, width, 1)
        self.critics = [plain_network(OBS + ACTION, width, width, 1) for _ in range(2)]
        self.targets = copy.deepcopy(self.critics)
        self.policy, self.log_std = plain_network(OBS, width, width, ACTION), nn.Parameter(torch.zeros(ACTION))
        critics = [parameter for critic in self.critics for parameter in critic.parameters()]
        groups = (self.value.parameters(), critics, [*self.policy.parameters(), self.log_std])
        self.optimisers = [torch.optim.Adam(group, 3e-4) for group in groups]

    def update(self, s: Tensor, a: Tensor, r: Tensor, s2: Tensor, d: Tensor) -> None:
        """One IQL step with the PEX repository's numbers."""
        sa = torch.cat([s, a], -1)
        with torch.no_grad():
            q = torch.min(*(target(sa).squeeze(-1) for target in self.targets))
            y = r + 0.99 * (1 - d) * self.value(s2).squeeze(-1)
        u = q - self.value(s).squeeze(-1)
        self.step(0, (torch.where(u > 0, 0.9, 0.1) * u**2).mean())
        self.step(1, sum(nn.functional.mse_loss(critic(sa).squeeze(-1), y) for critic in self.critics) / 2)
        for target, critic in zip(self.targets, self.critics, strict=True):
            for old, new in zip(target.parameters(), critic.parameters(), strict=True):
                old.data.copy_(0.995 * old.data + 0.005 * new.data)
        policy = torch.distributions.Normal(self.policy(s).tanh(), self.log_std.clamp(-5, 2).exp())
        weight = (10 * u.detach()).exp().clamp(max=100)
        self.step(2, -(weight * policy.log_prob(a).sum(-1)).mean())

    def step(self, index: int, loss: Tensor) -> None:
        """One step of one optimiser."""
        self.optimisers[index].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[index].step()


def random_rows() -> Tensor:
    data = Transitions(
        torch.randn(ROWS, OBS), torch.rand(ROWS, ACTION) * 2 - 1, torch.randn(ROWS), torch.randn(ROWS, OBS),
        torch.zeros(ROWS),
    )  # fmt: skip
    return to_rows(data)


def plain_updates(width: int, batch: int, rows: Tensor) -> Callable[[], None]:
    agent = PlainIQL(width)

    def update() -> None:
        picked = rows[torch.randint(ROWS, (batch,))]
        s, a, r, s2, d = picked.split([OBS, ACTION, 1, OBS, 1], -1)
        agent.update(s, a, r[:, 0], s2, d[:, 0])

    return update


def stacked_updates(
    width: int, batch: int, rows: Tensor, replicas: int, precision: str, device: str = "cpu"
) -> Callable[[], None]:
    settings, seeds = replace(PEX_REPOSITORY, hidden=(width, width), precision=precision), tuple(range(replicas))
    agent, streams = IQL(OBS, ACTION, settings, seeds=seeds, device=device), Streams(seeds, "bench", device)
    empty = [Ring(replicas, 1, row_width(OBS, ACTION), device) for _ in range(3)]
    pools = Pools(FixedRows(rows.to(device)), *empty, OBS, ACTION)
    return lambda: agent.update(draw(pools, [(pools.offline, batch, OFFLINE)], streams)) and None


def rate(update: Callable[[], None], seconds: float, device: str = "cpu") -> float:
    """Updates per CPU-second (wall second on a GPU) after a warm-up."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    for _ in range(5):
        update()
    began, count = clock(), 0
    while clock() - began < seconds:
        update()
        count += 1
    if device != "cpu":
        torch.cuda.synchronize()
    return count / (clock() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU seconds per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions; the median counts")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = random_rows()
    size = (arguments.width, arguments.batch, rows)
    cases: dict[str, tuple[int, Callable[[], None]]] = {"plain, R = 1, fp32": (1, plain_updates(*size))}
    for precision in ("fp32", "bf16"):
        for replicas in arguments.replicas:
            cases[f"stack, R = {replicas}, {precision}"] = (replicas, stacked_updates(*size, replicas, precision))
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(arguments.rounds):
        for name, (replicas, update) in cases.items():
            samples[name].append(replicas * rate(update, arguments.seconds))
    medians = {name: sorted(values)[len(values) // 2] for name, values in samples.items()}
    base = medians["plain, R = 1, fp32"]
    print(f"IQL, width {arguments.width}, batch {arguments.batch}, one core, torch {torch.__version__}")
    print(f"{'learner':24}{'replica-updates/s':>20}{'ratio to plain':>18}")
    for name, value in medians.items():
        print(f"{name:24}{value:20.0f}{value / base:18.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"updates_per_second": medians, **{"torch": torch.__version__}}, indent=1))


if __name__ == "__main__":
    main()
