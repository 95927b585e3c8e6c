"""The two libraries meet by shape: a diffusion model is a generator for the loop, in a real environment."""

import numpy as np
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_rl.agents.iql import IQL, IQLSettings
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.collect import EnvCollector
from cfdg_rl.datasets import load_dataset
from cfdg_rl.finetune import FinetunePlan, finetune
from cfdg_rl.mixing import Concatenated, Pools
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import row_width, to_rows


def test_a_diffusion_model_fills_the_synthetic_buffers_of_a_real_run(tmp_path):
    seeds = (0, 1)
    data = load_dataset("recorded:hopper-random", rows=4000, cache=tmp_path)
    columns = row_width(data.obs_dim, data.action_dim)
    plan = FinetunePlan(steps=80, refresh_every=40, warm_up=20, batch_size=32, synthetic_rows=100)
    settings = DiffusionSettings(width=32, blocks=1, steps=300, sampling_steps=8, precision="fp32")
    model = ConditionalDiffusion(columns, 2, seeds=seeds, settings=settings, raw_columns=(columns - 1,))
    rings = [Ring(len(seeds), size, columns) for size in (plan.steps, 100, 100)]
    pools = Pools(FixedRows(to_rows(data.transitions)), *rings, data.obs_dim, data.action_dim)
    agent = IQL(data.obs_dim, data.action_dim, IQLSettings(hidden=(32, 32)), seeds=seeds)
    collector = EnvCollector(data.env_id, seeds, RewardMap())
    log = dict(finetune(agent, collector, pools, Concatenated(Streams(seeds, "mix")), model, plan))
    assert (len(pools.online_synthetic), len(pools.offline_synthetic)) == (80, 20)
    assert log[40]["refresh/rejected"].max() < 0.5
    made, real = (pools.decode(rows) for rows in (pools.offline_synthetic.view(), pools.offline.view()))
    assert torch.isin(made.terminal, torch.tensor([0.0, 1.0])).all()
    assert made.action.abs().max() <= 1
    low, high = np.quantile(real.reward.numpy(), [0.01, 0.99])
    assert low < made.reward.mean().item() < high
