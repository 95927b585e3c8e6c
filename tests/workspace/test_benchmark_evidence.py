"""Verdicts of the study's page: both controls, corrected over all registered cells, finished or not."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import datasets_of, profile_for
from cfdg_experiments.tracking.logged import flatten

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def load():
    import importlib

    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def page(load):
    return load("evidence_page")


@pytest.fixture(scope="module")
def study(load):
    return load("evidence")


@pytest.fixture(scope="module")
def scores(load):
    return load("evidence_scores")


def result(shift, noise, seed):
    """Ten flat curves of three evaluations around ``shift``."""
    heights = shift + noise * np.random.default_rng(seed).standard_normal((10, 1))
    return CellResult(
        "recorded:hopper-medium",
        "iql",
        "arm",
        tuple(range(10)),
        steps=np.array([0, 100, 200]),
        scores=heights + np.zeros((10, 3)),
        behaviour_score=30.0,
        seconds=1.0,
    )


def arms(split, repeat=0.0):
    return {
        "base-share": result(0.0, 1.0, 1),
        "base": result(0.0, 1.0, 1),
        "repeat": result(repeat, 1.0, 2),
        "cfdg-split": result(split, 1.0, 3),
    }


def test_a_win_is_one_over_both_controls(page, study):
    places = study.PLACES
    shifts = {places[0]: arms(20.0), places[1]: arms(-20.0), places[2]: arms(20.0, repeat=20.0), places[3]: arms(0.0)}
    words = {place: verdict.word for place, verdict in page.verdicts(places, shifts).items()}
    assert list(words.values()) == ["win", "loss", "unresolved", "unresolved"]
    text = page.counted(places, shifts)
    assert "1 wins, 1 losses, 2 unresolved, 11 of 15 cells not finished" in text


def test_unfinished_cells_count_as_if_nothing_was_found(page):
    gaps = {"one": np.array([1.0, 1.2, 0.8, 1.5])}
    alone, registered = (page.compared(gaps, family)["one"] for family in (1, 15))
    assert alone.holm == pytest.approx(alone.p)
    assert registered.holm == pytest.approx(min(1, 15 * registered.p))


def test_the_gap_is_of_paired_seeds(page):
    cells = {"base-share": result(0.0, 1.0, 1), "cfdg-split": result(2.0, 1.0, 1)}
    assert page.gap(cells, "cfdg-split", "base-share") == pytest.approx(np.full(10, 2.0))
    assert page.gap(cells, "cfdg-split", "repeat") is None


def test_scores_of_the_page_are_read_as_they_were_written(scores, study, tmp_path):
    results = {place: arms(shift) for shift, place in enumerate(study.PLACES[:2])}
    path = tmp_path / "page.csv"
    path.write_text(scores.raw_scores(results))
    told = scores.read_scores(path, {place.name for place in study.every_place()}, study.ARMS)
    for place, cells in results.items():
        assert told[place.name].keys() == cells.keys()
        for arm, cell in cells.items():
            own = told[place.name][arm]
            assert (own.algorithm, own.dataset) == (place.algorithm, f"recorded:{place.dataset}")
            assert own.seeds == cell.seeds
            assert own.steps.tolist() == cell.steps.tolist()
            assert own.scores == pytest.approx(cell.scores, abs=5.1e-4)
    assert scores.raw_scores({place: told[place.name] for place in results}) == path.read_text()
    assert scores.read_scores(tmp_path / "none.csv", (), ()) == {}


def test_a_line_of_no_cell_of_the_study_is_told_before_it_is_lost(scores, study, tmp_path):
    path = tmp_path / "page.csv"
    path.write_text(scores.raw_scores({study.PLACES[0]: arms(0.0)}))
    with pytest.raises(ValueError, match=f"scores of 'base-share' in '{study.PLACES[0].name}', expected a cell"):
        scores.read_scores(path, {study.PLACES[1].name}, study.ARMS)
    with pytest.raises(ValueError, match="scores of 'repeat' in"):
        scores.read_scores(path, {study.PLACES[0].name}, [arm for arm in study.ARMS if arm != "repeat"])


def test_a_study_goes_on_in_a_new_folder(scores, study, tmp_path):
    place, other = study.PLACES[:2]
    told = {place.name: {"repeat": result(1.0, 0.0, 1), "base": result(2.0, 0.0, 1)}}
    space = Workspace(tmp_path)
    result(3.0, 0.0, 1).to_json(space.result(place.cell("base")))
    found = scores.finished([place, other], study.ARMS, space, told)
    assert list(found) == [place]
    assert {arm: cell.final[0] for arm, cell in found[place].items()} == {"repeat": 1.0, "base": 3.0}
    states = [study.state(place, arm, space, told) for arm in ("base", "repeat", "cfdg-split")]
    assert states == ["finished", "on the page", "to run"]


def test_missing_runs_only_what_the_page_lacks(study, tmp_path, monkeypatch):
    ran = []
    place = study.PLACES[0]
    monkeypatch.setattr(study, "order", lambda: [(place, arm) for arm in ("base", "repeat", "cfdg-split")])
    monkeypatch.setattr(study, "run_cell", lambda cell, *_: ran.append(cell.arm) or result(0.0, 0.0, 1))
    space, told = Workspace(tmp_path), {place.name: {"repeat": result(1.0, 0.0, 1)}}
    result(3.0, 0.0, 1).to_json(space.result(place.cell("base")))
    study.run(space, (study.FINISHED, study.ON_PAGE), told)
    assert ran == ["cfdg-split"]
    study.run(space, (study.FINISHED,), told)
    assert ran[1:] == ["repeat", "cfdg-split"]


def test_every_cell_and_arm_is_listed_once_and_references_come_first(study):
    order = study.order()
    places = study.PLACES + study.ADDED
    registered = sum(len(study.FIRST + study.OTHERS) - (place.algorithm == "apl") for place in places)
    fresh = 3 * sum(map(len, study.SAMPLES.values())) + (2 + len(study.VARIANTS)) * len(study.QUICK) + 2 * 4 + 3
    assert len(set(order)) == len(order) == registered + fresh
    assert len({place.name for place in study.every_place()}) == len(study.every_place())
    references = order[: len(places)]
    assert {place for place, _ in references} == set(places)
    assert all(arm == place.reference for place, arm in references)
    for place, arm in order:
        assert place.cell(arm).profile.seeds == tuple(range(place.first_seed, place.first_seed + 10))


def test_fresh_seeds_are_pooled_and_corrected_over_both_controls(page, study):
    for name, reference in (("third", "base"), ("fourth", "base-share")):
        results = {place: arms(1.0) for place in study.SAMPLES[name]}
        lines = page.confirmation(results).splitlines()[2:]
        assert [line.split(" | ")[:2] for line in lines] == [[f"| {reference}", "20"], ["| repeat", "20"]]
        own = page.pooled_arms(results).splitlines()[2:]
        assert [line.split(" | ")[:2] for line in own] == [[f"| {arm}", "20"] for arm in arms(1.0)]
        gaps = {arm: page.gap(arms(1.0), "cfdg-split", arm).mean() for arm in arms(1.0)}
        for line, (arm, mean) in zip(own, gaps.items(), strict=True):
            told = line.split("|")[5].strip()
            assert told.startswith(f"{mean:+.1f} [") if arm != "cfdg-split" else not told
    assert page.confirmation({}).count("\n") == 1


def test_other_generators_are_compared_with_the_arm_and_corrected_by_column(page, study):
    one, other, third = study.PLACES[:3]
    far = arms(0.0) | {"cfdg": result(-20.0, 1.0, 4), "synther": result(0.1, 1.0, 5)}
    near = arms(0.0) | {"cfdg": result(0.0, 1.0, 6)}
    head, _, *lines = page.generators({one: far, other: near, third: arms(0.0)}).splitlines()
    assert head.split(" | ")[1:3] == ["cfdg", "cfdg-split-gated"]
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert [own[0] for own in cells] == [one.name, other.name]
    assert cells[0][1].startswith("**-20.")
    assert not cells[1][1].startswith("*")
    gap = page.gap(far, "synther", "cfdg-split").mean()
    assert lines[0].split("|")[5].strip().startswith(f"{gap:+.1f} [")


@pytest.mark.parametrize("place", ["QUICK", "PLACES"])
def test_a_variant_is_its_arm_with_settings_of_its_own(place, study):
    for variant, (arm, changes) in study.VARIANTS.items():
        one, other = (getattr(study, place)[0].cell(name) for name in (arm, variant))
        assert (one.arm, other.arm) == (arm, arm)
        own, usual = (flatten(asdict(cell.profile)) for cell in (other, one))
        assert {key: own[key] for key in own if own[key] != usual[key]} == {
            key: str(value) for key, value in changes.items()
        }


def test_cells_of_the_ablation_differ_from_the_helping_one_in_what_they_say(study):
    whole = flatten(asdict(study.QUICK[0].cell("cfdg-split").profile))
    names = set()
    for place, arm in study.ABLATED.values():
        own = flatten(asdict(place.cell(arm).profile))
        names.add(frozenset(key for key in own if own[key] != whole[key]))
    sizes = {"learner.hidden", "pretrain.batch_size", "finetune.batch_size"}
    noise = {"diffusion.sigma_min", "diffusion.sigma_max"}
    single = ({"rows"}, {"finetune.refresh_every"}, sizes, noise, ())
    assert names == {frozenset(keys) for keys in single}
    assert len({place.name for place, _ in study.ABLATED.values()}) == 5


def test_what_a_thing_changes_is_the_paired_difference_of_gains(page, study):
    whole, place = study.QUICK[0], study.ABLATED["four refreshes"][0]
    altered = {"four refreshes": (place, "cfdg-split"), "a control": (whole, "repeat"), "more": (place, "unfinished")}
    first, *others = page.ablated({whole: arms(3.0), place: arms(1.0)}, whole, altered).splitlines()[2:]
    assert first.startswith("| cfdg-split as it is |")
    assert first.endswith("|  |")
    assert others[0].endswith("| -2.0 |")
    assert others[1].startswith("| a control |")
    assert len(others) == 2


def test_a_fresher_cell_takes_as_many_steps_of_the_generator(study):
    for place in study.PLACES + study.ADDED:
        profile = place.cell("cfdg-split").profile
        assert profile.mixing.extra == place.extra
        assert profile.refresh.steps / profile.finetune.refresh_every == pytest.approx(500 / 600)


def test_cells_of_all_places_have_files_of_their_own(study, tmp_path):
    space = study.Workspace(tmp_path)
    files = [space.result(place.cell("cfdg-split")) for place in study.PLACES + study.ADDED]
    assert len(set(files)) == len(files)


def test_the_page_is_written_from_what_is_finished(page, study, tmp_path):
    text = page.raw_scores({study.PLACES[0]: arms(1.0)})
    assert text.splitlines()[0] == "cell,arm,seed,area,0,100,200"
    assert len(text.splitlines()) == 1 + 4 * 10
    page.draw({study.PLACES[0]: arms(1.0)}, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_the_reduced_profile_has_the_cells_of_the_study(study):
    """Same keys: a result of one is a result of the other."""
    profile = load_profile("reduced")
    found = {
        Cell(name, algorithm, arm, profile_for(profile, name, algorithm)).key
        for algorithm in profile.algorithms
        for name in datasets_of(profile, algorithm)
        for arm in profile.arms
    }
    places = [place for place in study.PLACES + study.ADDED if place.updates == 5 and place.rows < 100_000]
    plain = [place for place in places if place.refresh_every == 600]
    assert found == {place.cell(arm).key for place in plain for arm in profile.arms}
    assert len(found) == 11 * 6
