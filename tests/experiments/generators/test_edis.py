"""EDIS: guided rows lie nearer to the policy and the online states, and its guidance moves the columns it should."""

import math

import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_experiments.generators.edis import Edis, EdisSettings
from cfdg_experiments.generators.energies import EnergySettings
from cfdg_experiments.generators.schedule import Schedule
from cfdg_rl.transitions import Transitions, from_rows, to_rows

SEEDS = (0, 1)
ENERGY = EnergySettings(width=32, learning_rate=1e-2, batch_size=128, negatives=4)


def act(obs):
    """The mean action of the policy."""
    return 0.8 * torch.tanh(obs)


def line(count, mean, std, policy, seed):
    """s' = s + a with noise, for two replicas."""
    rng = torch.Generator().manual_seed(seed)
    obs = mean + std * torch.randn(len(SEEDS), count, 1, generator=rng)
    action = policy(obs, torch.randn(obs.shape, generator=rng))
    after = obs + action + 0.05 * torch.randn(obs.shape, generator=rng)
    return to_rows(Transitions(obs, action, -after[..., 0].abs(), after, torch.zeros(obs.shape[:2])))


def merged(offline=1500, online=500):
    rows = torch.cat(
        [
            line(offline, 0.0, 1.0, lambda obs, noise: (0.5 * noise).clamp(-1, 1), 0),
            line(online, 1.0, 0.4, lambda obs, noise: (act(obs) + 0.1 * noise).clamp(-1, 1), 1),
        ],
        dim=1,
    )
    return rows, torch.arange(offline + online).ge(offline).long().expand(len(SEEDS), -1)


def edis(steps=400, width=64, **changes):
    diffusion = DiffusionSettings(width=width, blocks=2, sampling_steps=16, guidance_weight=0.0, precision="fp32")
    model = ConditionalDiffusion(5, 1, seeds=SEEDS, settings=diffusion, raw_columns=(4,))
    noise = torch.Generator().manual_seed(5)

    def policy(obs):
        return (act(obs) + 0.1 * torch.randn(obs.shape, generator=noise)).clamp(-1, 1)

    settings = EdisSettings(**({"pool_rows": 2000, "first_steps": 250, "steps": 250, "energy": ENERGY} | changes))
    return Edis(model, Schedule(steps, steps), policy, 1, 1, settings)


def measures(rows, online):
    """Distance of actions to the policy's, Wasserstein distance of states to the online ones, and the model's error."""
    data = from_rows(rows, 1, 1)
    levels = torch.linspace(0.005, 0.995, 100)
    states, real = (part[..., 0].flatten().quantile(levels) for part in (rows, online))
    return {
        "policy": float((data.action - act(data.obs)).abs().mean()),
        "state": float((states - real).abs().mean()),
        "dynamics": float((data.next_obs - data.obs - data.action).square().median()),
    }


@pytest.mark.parametrize("negatives", ["pool", "clamped"])
def test_guided_rows_are_nearer_to_the_policy_and_the_online_states_and_no_less_true(negatives):
    generator = edis(negatives=negatives)
    rows, origin = merged()
    accuracy = generator.fit(rows, origin)
    assert {name: value.shape for name, value in accuracy.items()} == {
        f"edis/{name}_accuracy": (2,) for name in ("state", "action", "transition")
    }
    assert (accuracy["edis/state_accuracy"] > 0.52).all()
    labels = torch.ones(2, 2000, dtype=torch.long)
    online = rows[origin == 1]
    guided = measures(generator.sample(labels), online)
    plain = measures(generator.model.sample(torch.zeros_like(labels), guidance_weight=0.0), online)
    assert guided["policy"] < 0.7 * plain["policy"]
    assert guided["state"] < 0.5 * plain["state"]
    assert guided["dynamics"] < 1.5 * plain["dynamics"]  # the median: some rows, moved far in s alone, do break


def test_each_energy_moves_its_own_columns_and_the_guidance_is_capped():
    generator = edis(state_weight=2.0, action_weight=3.0, transition_weight=0.5)
    for energy in generator.energies.values():
        energy.gradient = lambda z, sigma: torch.full_like(z, 0.1)
    z = torch.zeros(2, 3, 5)
    found = generator.energy_gradient(z, torch.full((1, 1), 0.5))
    torch.testing.assert_close(found, torch.tensor([0.2, 0.3, 0.0, 0.05, 0.0]).expand(2, 3, -1))
    high = 1e3
    capped = generator.energy_gradient(z, torch.full((1, 1), high))
    torch.testing.assert_close(high * capped.norm(dim=-1), torch.full((2, 3), math.sqrt(5)))
    torch.testing.assert_close(capped / capped.norm(dim=-1, keepdim=True), found / found.norm(dim=-1, keepdim=True))


def test_without_weights_guided_rows_are_the_models_own():
    generator = edis(steps=5, width=8, first_steps=2, state_weight=0.0, action_weight=0.0, transition_weight=0.0)
    generator.fit(*merged(60, 30))
    generator.model.restart_sampling(SEEDS)
    guided = generator.sample(torch.zeros(2, 20, dtype=torch.long))
    generator.model.restart_sampling(SEEDS)
    assert torch.equal(guided, generator.model.sample(torch.zeros(2, 20, dtype=torch.long), guidance_weight=0.0))


@pytest.mark.parametrize("negatives", ["pool", "clamped"])
def test_a_restored_generator_goes_on_bit_for_bit(negatives):
    small = {"steps": 3, "width": 8, "first_steps": 3, "negatives": negatives, "source": "offline", "pool_rows": 40}
    data = merged(60, 30)
    asked = torch.ones(2, 10, dtype=torch.long)
    first = edis(**small)
    second = edis(**small)
    for generator in (first, second):
        generator.policy = act
    first.fit(*data)
    first.sample(asked)
    second.restore(first.state())
    for generator in (first, second):
        generator.fit(data[0] * 4, data[1])  # the model's space has moved: energies begin anew
    assert torch.equal(first.sample(asked), second.sample(asked))


@pytest.mark.parametrize("source", ["offline", "merged"])
def test_parts_are_taken_as_joined_rows_are(source):
    shared, _ = merged(60, 30)
    rows = shared[:1].expand(2, -1, -1)
    labels = torch.arange(90).ge(60).long().expand(2, -1)
    parts = [(shared[0, :60], 0), (rows[:, 60:], 1)]  # offline rows that both replicas share
    drawn = []
    for fit in (lambda generator: generator.fit(rows, labels), lambda generator: generator.fit_parts(parts)):
        generator = edis(steps=3, width=8, first_steps=3, source=source, pool_rows=40)
        generator.policy = act
        fit(generator)
        drawn.append(generator.sample(torch.ones(2, 10, dtype=torch.long)))
    torch.testing.assert_close(drawn[0], drawn[1])


def test_refusals():
    with pytest.raises(ValueError, match="source is 'online', expected one of merged, offline"):
        EdisSettings(source="online")
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        EdisSettings(steps=0)
    with pytest.raises(ValueError, match="action_weight is -1, expected at least 0"):
        EdisSettings(action_weight=-1)
