"""Learners on a GPU: updates equal the CPU's, do not wait for the host, and a state moves between devices."""

import copy

import pytest
import torch

from cfdg_rl.agents.apl import APL, APLSettings
from cfdg_rl.agents.iql import IQL, PEX_REPOSITORY
from cfdg_rl.agents.pex import PEX
from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.mixing import OFFLINE, ONLINE, Pools, draw
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, row_width, to_rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")

OBS = 5
ACTION = 2
SEEDS = (0, 7)


def iql(device):
    return IQL(OBS, ACTION, PEX_REPOSITORY, seeds=SEEDS, device=device)


LEARNERS = {
    "iql": iql,
    "pex": lambda device: PEX(iql(device)),
    "apl": lambda device: APL(OBS, ACTION, APLSettings(hidden=(32, 32), sampled_actions=4), seeds=SEEDS, device=device),
    "td3-bc": lambda device: TD3BC(OBS, ACTION, TD3BCSettings(hidden=(32, 32)), seeds=SEEDS, device=device),
}
every_learner = pytest.mark.parametrize("name", LEARNERS)


def pools(device):
    generator = torch.Generator().manual_seed(0)
    rows = to_rows(
        Transitions(
            obs=torch.randn(2000, OBS, generator=generator),
            action=torch.rand(2000, ACTION, generator=generator) * 2 - 1,
            reward=torch.randn(2000, generator=generator),
            next_obs=torch.randn(2000, OBS, generator=generator),
            terminal=(torch.rand(2000, generator=generator) < 0.1).float(),
        )
    ).to(device)
    empty = [Ring(len(SEEDS), 1, row_width(OBS, ACTION), device) for _ in range(3)]
    return Pools(FixedRows(rows), *empty, OBS, ACTION)


def batches(device, count):
    own = pools(device)
    streams = Streams(SEEDS, "batches", device)
    return [draw(own, [(own.offline, 128, (OFFLINE, ONLINE)[step % 2])], streams) for step in range(count)]


def moved(batch, device):
    return type(batch)(batch.data.map(lambda tensor: tensor.to(device)), batch.labels.to(device), batch.label)


def test_an_update_without_noise_equals_the_cpus():
    here = iql("cpu")
    there = iql("cuda")
    there.load_state_dict({key: value.cuda() for key, value in here.state_dict().items()})
    for step, batch in enumerate(batches("cpu", 5)):
        metrics = here.update(batch)
        found = there.update(moved(batch, "cuda"))
        for key, value in metrics.items():
            allowed = 1e-4 if step == 0 else 2e-2  # Adam turns rounding of small gradients into whole steps
            torch.testing.assert_close(found[key].cpu(), value, rtol=allowed, atol=allowed, msg=key)
    for key, value in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[key].cpu(), value, rtol=2e-2, atol=4e-3, msg=key)


@every_learner
def test_updates_and_draws_do_not_wait_for_the_gpu(name, no_waiting):
    learner = LEARNERS[name]("cuda")
    own = pools("cuda")
    streams = Streams(SEEDS, "batches", "cuda")

    def update():
        learner.update(draw(own, [(own.offline, 128, OFFLINE)], streams))

    for _ in range(4):
        update()
    with no_waiting():
        for _ in range(10):
            update()


@every_learner
def test_the_same_batches_give_the_same_weights(name):
    first = LEARNERS[name]("cuda")
    again = LEARNERS[name]("cuda")
    for batch in batches("cuda", 6):
        first.update(copy.deepcopy(batch))
        again.update(batch)
    for key, value in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, msg=key)


@every_learner
def test_a_saved_learner_continues(name, tmp_path):
    whole = LEARNERS[name]("cuda")
    data = batches("cuda", 8)
    for batch in data[:4]:
        whole.update(batch)
    state = {
        "weights": dict(whole.state_dict()),
        "optimisers": {key: optimiser.state_dict() for key, optimiser in whole.optimisers.items()},
        "streams": {key: streams.state() for key, streams in whole.streams.items()},
    }
    save_checkpoint(tmp_path / "agent.safetensors", state)
    state = load_checkpoint(tmp_path / "agent.safetensors", "cuda")
    again = LEARNERS[name]("cuda")
    again.load_state_dict(state["weights"])
    for key, optimiser in again.optimisers.items():
        optimiser.load_state_dict(state["optimisers"][key])
    for key, streams in again.streams.items():
        streams.restore(state["streams"][key])
    for batch in data[4:]:
        whole.update(batch)
        again.update(batch)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)
