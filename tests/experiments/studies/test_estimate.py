"""Estimates of a run's time: what an arm does beside its model counts too."""

from dataclasses import replace

from cfdg_experiments.cells.cell import cells_of
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.studies import estimate
from cfdg_experiments.studies.estimate import AgentCosts, EdisCosts, ModelCosts, energy_seconds, estimate_seconds
from cfdg_experiments.studies.figure1 import MEASURE_SECONDS, PLANE_SECONDS, seconds

SETTINGS = {
    "algorithms": ["iql"],
    "data.datasets": ["recorded:hopper-medium"],
    "arms": ["base", "cfdg", "edis"],
    "seeds": [0, 1],
    "finetune.steps": 50,
    "finetune.warm_up": 10,
    "finetune.refresh_every": 20,
    "finetune.synthetic_rows": 10,
    "generators.edis.pool_rows": 7,
    "generators.edis.first_steps": 5,
    "generators.edis.steps": 3,
}


def cells():
    return cells_of(load_profile("quick", SETTINGS))


def test_energies_and_their_negatives_are_counted_at_each_refresh():
    own = cells()[-1].profile
    costs = EdisCosts(step=1.0, row=0.0, guided=0.0)
    assert energy_seconds(own, costs) == 5 + 3
    assert energy_seconds(own, replace(costs, step=0.0, row=1.0)) == 2 * 7
    clamped = replace(own.generators, edis=replace(own.generators.edis, negatives="clamped"))
    assert energy_seconds(replace(own, generators=clamped), replace(costs, step=0.0, row=1.0)) == 2 * 3 * 7


def test_edis_is_more_than_its_model(monkeypatch):
    monkeypatch.setattr(estimate, "agent_costs", lambda own: AgentCosts(0.0, 0.0, 0.0))
    monkeypatch.setattr(estimate, "model_costs", lambda own: ModelCosts(step=0.0, row=1.0))
    monkeypatch.setattr(estimate, "edis_costs", lambda own: EdisCosts(step=1.0, row=0.0, guided=2.0))
    found = [estimate_seconds([cell], []) for cell in cells()]
    assert found == [0, 2 * 10, 5 + 3 + 2 * 2 * 10]


def test_one_cell_of_a_dataset_pays_for_the_offline_fit(monkeypatch):
    monkeypatch.setattr(estimate, "agent_costs", lambda own: AgentCosts(0.0, 0.0, 0.0))
    monkeypatch.setattr(estimate, "model_costs", lambda own: ModelCosts(step=1.0, row=0.0))
    schedule = {"refresh.offline_steps": 40, "refresh.first_steps": 9, "refresh.steps": 4, "refresh.warm_start": True}
    settings = SETTINGS | schedule | {"arms": ["cfdg", "synther"]}
    cfdg, synther = cells_of(load_profile("quick", settings))
    assert estimate_seconds([cfdg], []) == 4 + 4  # every refresh continues the offline fit
    assert estimate_seconds([synther], []) == 9 + 4  # which SynthER has not
    assert estimate_seconds([cfdg, synther], [], [cfdg]) == 40 + 4 + 4 + 9 + 4


def test_updates_in_place_of_a_generator_are_counted(monkeypatch):
    monkeypatch.setattr(estimate, "agent_costs", lambda own: AgentCosts(0.0, 1.0, 0.0))
    schedule = {"refresh.first_steps": 9, "refresh.steps": 4, "refresh.warm_start": True}
    settings = SETTINGS | schedule | {"arms": ["base", "base-updates"], "generators.updates_per_fit_step": 2.0}
    base, updates = (estimate_seconds([cell], []) for cell in cells_of(load_profile("quick", settings)))
    assert updates - base == 2 * (9 + 4)


def test_figure_1_counts_its_planes_and_measures():
    base, cfdg, edis = cells()
    assert seconds([base]) == 0
    assert seconds([cfdg, edis]) == 2 * (PLANE_SECONDS + 2 * MEASURE_SECONDS)
