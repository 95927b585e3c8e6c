"""TorchRL: SAC on batches of TensorDicts of offline, online and generated rows.

    pip install torchrl cfdg-rl cfdg-diffusion
    python examples/libraries/torchrl_sac.py

``ReplayBufferEnsemble`` draws its buffers' shares in expectation, ``OfflineToOnlineReplayBuffer`` exactly but from two
buffers; here a batch is the online buffer's sample beside the other rows, exact for three. Without them: ``--plain``.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch
from mixed_replay import MixedReplay
from pendulum import ENV_ID, LARGEST, STEPS, mean_return, offline_rows, refreshes_at, to_transitions
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import set_exploration_type
from torchrl.envs.libs.gym import GymEnv
from torchrl.envs.utils import ExplorationType
from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate

from cfdg_rl import Transitions

FRAMES = 20  # steps between updates, as many as updates
BATCH = 256
OWN = {"auto_register_policy_transforms": False}  # a policy without memory needs none
FIELDS = ("observation", "action", ("next", "observation"), ("next", "reward"), ("next", "terminated"))


def to_tensordict(rows: Transitions) -> TensorDict:
    """Write rows as TorchRL stores them; done is what terminated is, since a time limit is no end."""
    ends = rows.terminal[:, None].bool()
    after = {"observation": rows.next_obs, "reward": rows.reward[:, None], "terminated": ends, "done": ends}
    return TensorDict({"observation": rows.obs, "action": LARGEST * rows.action, "next": after}, [len(rows)])


def from_tensordict(data: TensorDict) -> Transitions:
    """Read rows of TorchRL's; actions are mapped to [-1, 1]."""
    obs, action, after, reward, ends = (data[field] for field in FIELDS)
    return to_transitions(obs, action / LARGEST, reward[:, 0], after, ends[:, 0])


def sample(online: ReplayBuffer, replay: MixedReplay | None) -> TensorDict:
    """Draw a batch with the exact number of rows of each kind."""
    if replay is None:
        return online.sample(BATCH)
    counts = replay.counts(BATCH)
    others = to_tensordict(replay.others(counts))
    return torch.cat([online.sample(counts.online).select(*others.keys(True, True)), others])


def make_loss(env: GymEnv) -> tuple[ProbabilisticActor, SACLoss]:
    """Make actor and critics of two hidden layers."""
    sizes = {"num_cells": [64, 64], "activation_class": nn.ReLU}
    body = nn.Sequential(MLP(in_features=3, out_features=2, **sizes), NormalParamExtractor())
    box = env.action_spec.space
    actor = ProbabilisticActor(
        TensorDictModule(body, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=env.action_spec,
        distribution_class=TanhNormal,
        distribution_kwargs={"low": box.low, "high": box.high},
        return_log_prob=True,
    )
    critic = ValueOperator(MLP(in_features=4, out_features=1, **sizes), in_keys=["observation", "action"])
    loss = SACLoss(actor, critic, num_qvalue_nets=2)
    loss.make_value_estimator(gamma=0.99)
    return actor, loss


def main() -> None:
    """Train for about a minute and print the mean return."""
    torch.manual_seed(0)
    env = GymEnv(ENV_ID)
    env.set_seed(0)
    actor, loss = make_loss(env)
    targets = SoftUpdate(loss, eps=0.995)
    optimiser = torch.optim.Adam(loss.parameters(), lr=1e-3)
    buffer = ReplayBuffer(storage=LazyTensorStorage(STEPS))
    replay = None if "--plain" in sys.argv else MixedReplay(offline_rows())
    collector = Collector(env, actor, frames_per_batch=FRAMES, total_frames=STEPS, init_random_frames=200, **OWN)
    for collected in collector:
        buffer.extend(collected)
        if len(buffer) < 200:
            continue
        if replay and refreshes_at(len(buffer)):
            replay.refresh(from_tensordict(buffer[:]))
        for _ in range(FRAMES):
            losses = loss(sample(buffer, replay))
            optimiser.zero_grad()
            sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
            optimiser.step()
            targets.step()
    collector.shutdown()

    def act(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            return actor(TensorDict({"observation": torch.as_tensor(obs)}))["action"].numpy()

    print(f"mean return after {STEPS:,} steps: {mean_return(act):.1f}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    main()
