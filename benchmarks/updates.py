"""Updates per second of each algorithm, with R replicas side by side.

By default at the paper's sizes: each algorithm's own networks, batches of 256, Hopper's widths. On the CPU one thread
works and its CPU seconds count; where there is a GPU it is measured too, with eager updates and with updates captured
as CUDA graphs. Every update draws its batch. The variants of an algorithm take turns, so that they share the noise of a
busy machine; the median of their rounds counts.

The plain learner is IQL as the public PyTorch code of the field is written: separate nn.Sequential networks, three Adam
optimisers, a Python loop for the Polyak average, one seed per process. Ratios of the other algorithms are to their own
first row.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cfdg_rl.agents.apl import APL, APLSettings
from cfdg_rl.agents.capture import WARM_UP, Captured
from cfdg_rl.agents.iql import IQL, PEX_REPOSITORY
from cfdg_rl.agents.pex import PEX
from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.mixing import OFFLINE, ONLINE, Pools, draw
from cfdg_rl.protocols import Learner
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, row_width, to_rows

OBS = 11  # Hopper
ACTION = 3
ROWS = 100_000
PLAIN = "plain"


@dataclass(frozen=True)
class Variant:
    """One timed case: a number of replicas, a precision, and the way in which updates run."""

    replicas: int
    precision: str
    mode: str  # "plain", "cpu", "cuda" or "cuda graphs"

    @property
    def device(self) -> str:
        """Device of the updates."""
        return "cuda" if self.mode.startswith("cuda") else "cpu"


def make_iql(sizes: dict[str, object], **where: object) -> IQL:
    return IQL(OBS, ACTION, replace(PEX_REPOSITORY, **sizes), **where)


def make_pex(sizes: dict[str, object], **where: object) -> PEX:
    return PEX(make_iql(sizes, **where))


def make_apl(sizes: dict[str, object], **where: object) -> APL:
    return APL(OBS, ACTION, replace(APLSettings(), **sizes), **where)


def make_td3_bc(sizes: dict[str, object], **where: object) -> TD3BC:
    return TD3BC(OBS, ACTION, replace(TD3BCSettings(), **sizes), **where)


ALGORITHMS = {  # name -> learner, and the label of its batches
    "iql": (make_iql, OFFLINE),
    "pex": (make_pex, OFFLINE),
    "apl": (make_apl, OFFLINE),  # with the conservative term
    "apl-online": (make_apl, ONLINE),  # without it
    "td3-bc": (make_td3_bc, OFFLINE),
}


def plain_network(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainIQL:
    """One IQL learner, one network at a time."""

    def __init__(self, hidden: tuple[int, ...]) -> None:
        self.value = plain_network(OBS, *hidden, 1)
        self.critics = [plain_network(OBS + ACTION, *hidden, 1) for _ in range(2)]
        self.targets = copy.deepcopy(self.critics)
        self.policy = plain_network(OBS, *hidden, ACTION)
        self.log_std = nn.Parameter(torch.zeros(ACTION))
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


def plain_updates(hidden: tuple[int, ...], batch: int, rows: Tensor) -> Callable[[], object]:
    agent = PlainIQL(hidden)

    def update() -> None:
        picked = rows[torch.randint(ROWS, (batch,))]
        s, a, r, s2, d = picked.split([OBS, ACTION, 1, OBS, 1], -1)
        agent.update(s, a, r[:, 0], s2, d[:, 0])

    return update


def stacked_updates(name: str, variant: Variant, arguments: argparse.Namespace, rows: Tensor) -> Callable[[], object]:
    make, label = ALGORITHMS[name]
    sizes: dict[str, object] = {"precision": variant.precision}
    if arguments.hidden:
        sizes["hidden"] = tuple(arguments.hidden)
    seeds = tuple(range(variant.replicas))
    device = variant.device
    agent: Learner = make(sizes, seeds=seeds, device=device)
    learner = Captured(agent) if variant.mode == "cuda graphs" else agent
    empty = [Ring(variant.replicas, 1, row_width(OBS, ACTION), device) for _ in range(3)]
    pools = Pools(FixedRows(rows.to(device)), *empty, OBS, ACTION)
    streams = Streams(seeds, "bench", device)
    return lambda: learner.update(draw(pools, [(pools.offline, arguments.batch, label)], streams))


def prepare(name: str, variant: Variant, arguments: argparse.Namespace, rows: Tensor) -> Callable[[], object]:
    """A warm update."""
    if variant.mode == PLAIN:
        hidden = tuple(arguments.hidden or PEX_REPOSITORY.hidden)
        update = plain_updates(hidden, arguments.batch, rows)
    else:
        update = stacked_updates(name, variant, arguments, rows)
    for _ in range(2 * (WARM_UP + 1) if variant.device == "cuda" else 1):  # two graphs where the policy is delayed
        update()
    return update


def rate(update: Callable[[], object], seconds: float, device: str) -> float:
    """Updates per CPU-second (wall second on a GPU)."""
    clock, chunk = (time.process_time, 1) if device == "cpu" else (time.perf_counter, 50)
    began = clock()
    count = 0
    while clock() - began < seconds:
        for _ in range(chunk):
            update()
        if device == "cuda":
            torch.cuda.synchronize()  # not after every update: the host may run ahead, as it does in pre-training
        count += chunk
    return count / (clock() - began)


def variants(name: str, arguments: argparse.Namespace) -> Iterator[Variant]:
    modes = ["cpu"] if arguments.device != "cuda" else []
    modes += ["cuda", "cuda graphs"] if arguments.device != "cpu" and torch.cuda.is_available() else []
    if name == "iql" and "cpu" in modes:
        yield Variant(1, "fp32", PLAIN)
    for mode, precision, replicas in itertools.product(modes, arguments.precision, arguments.replicas):
        yield Variant(replicas, precision, mode)


def measure(name: str, arguments: argparse.Namespace, rows: Tensor) -> list[dict[str, object]]:
    """Medians of interleaved rounds, one line for each variant of an algorithm."""
    updates = {variant: prepare(name, variant, arguments, rows) for variant in variants(name, arguments)}
    samples: dict[Variant, list[float]] = {variant: [] for variant in updates}
    for _ in range(arguments.rounds):
        for variant, update in updates.items():
            samples[variant].append(rate(update, arguments.seconds, variant.device))
    lines = []
    first = None
    for variant, rates in samples.items():
        per_second = statistics.median(rates)
        replica_updates = variant.replicas * per_second
        first = first or replica_updates
        lines.append({
            "algorithm": name, "mode": variant.mode, "replicas": variant.replicas, "precision": variant.precision,
            "updates_per_second": per_second, "replica_updates_per_second": replica_updates,
            "ratio": replica_updates / first,
        })  # fmt: skip
    return lines


def show(line: dict[str, object]) -> None:
    print(
        f"{line['algorithm']:<12}{line['mode']:<13}{line['precision']:<7}{line['replicas']:>4}"
        f"{line['updates_per_second']:>13.4g}{line['replica_updates_per_second']:>21.4g}{line['ratio']:>8.2f}",
        flush=True,
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--hidden", type=int, nargs="+", help="widths of the hidden layers (default: the algorithm's)")
    parser.add_argument("--batch", type=int, default=256, help="rows per replica (default: 256)")
    parser.add_argument("--device", choices=["cpu", "cuda", "all"], default="all", help="default: all there are")
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement, at least one update (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions (default: 3)")
    parser.add_argument("--quick", action="store_true", help="two layers of 64, R = 1 and 5, half a second, once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to FILE")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no CUDA device")
    if arguments.quick:
        arguments.hidden = [64, 64]
        arguments.replicas = [1, 5]
        arguments.seconds = 0.5
        arguments.rounds = 1
    return arguments


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = random_rows()
    lines = []
    print(f"batch {arguments.batch}, widths {arguments.hidden or 'as published'}, torch {torch.__version__}")
    print(f"{'algorithm':<12}{'mode':<13}{'type':<7}{'R':>4}{'updates/s':>13}{'replica-updates/s':>21}{'ratio':>8}")
    for name in arguments.algorithms:
        for line in measure(name, arguments, rows):
            show(line)
            lines.append(line)
    if arguments.json:
        numbers = {"torch": torch.__version__, "batch": arguments.batch, "hidden": arguments.hidden, "results": lines}
        arguments.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
