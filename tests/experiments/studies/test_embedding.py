"""Figure 1: numbers tell a fresh draw from a shifted one and from copies, whatever the picture shows."""

import csv
import io
import sys

import numpy as np
import pytest

from cfdg_experiments.generators.inspection import InspectionSettings
from cfdg_experiments.studies.embedding import EmbeddingSettings, as_csv, as_markdown, average, draw, embed, measure

SMALL = EmbeddingSettings(
    shown=40,
    perplexity=10,
    iterations=250,
    measured=400,
    inspection=InspectionSettings(rows=400, neighbours=1500, queries=200),
)


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)

    def rows(mean, count=1500):
        return rng.normal(mean, 1.0, (count, 4)).astype(np.float32)

    real = {"offline": rows(0.0), "online": rows(3.0)}
    fresh = {"offline": rows(0.0), "online": rows(3.0)}
    return real, {"fresh": fresh, "shifted": {"online": rows(4.0)}, "copies": {"online": real["online"].copy()}}


@pytest.fixture(scope="module")
def measures(sets):
    return {(one.arm, one.label): one for one in measure(*sets, seed=0, settings=SMALL)}


def test_each_arm_and_label_is_measured(measures):
    assert list(measures) == [("fresh", "offline"), ("fresh", "online"), ("shifted", "online"), ("copies", "online")]


def test_a_fresh_draw_is_innocent(measures):
    for label in ("offline", "online"):
        one = measures["fresh", label]
        assert one.swd < 2 * one.swd_real
        assert one.detection == pytest.approx(0.5, abs=0.08)
        assert one.novelty == pytest.approx(1.0, abs=0.2)
        assert one.copies < 0.12


def test_a_shift_is_seen_by_distance_and_detection_and_copies_by_novelty(measures):
    shifted = measures["shifted", "online"]
    assert shifted.swd > 4 * shifted.swd_real
    assert shifted.detection > 0.8
    copies = measures["copies", "online"]
    assert (copies.novelty, copies.copies) == (0.0, 1.0)
    assert copies.detection < 0.5  # trees learn a copied row under the other label


def test_the_plane_holds_every_set_and_the_same_seed_gives_the_same_plane(sets):
    points = embed(*sets, seed=0, settings=SMALL)
    assert {key: value.shape for key, value in points.items()} == {
        ("real", "offline"): (40, 2),
        ("real", "online"): (40, 2),
        ("fresh", "offline"): (40, 2),
        ("fresh", "online"): (40, 2),
        ("shifted", "online"): (40, 2),
        ("copies", "online"): (40, 2),
    }
    again = embed(*sets, seed=0, settings=SMALL)
    assert all(np.array_equal(value, again[key]) for key, value in points.items())
    separated = np.linalg.norm(points["real", "offline"].mean(0) - points["real", "online"].mean(0))
    assert separated > points["real", "offline"].std()


def test_the_picture_has_a_panel_and_the_numbers_of_each_arm(sets, measures, tmp_path):
    real, generated = sets
    planes = {arm: embed(real, {arm: own}, seed=0, settings=SMALL) for arm, own in generated.items()}
    figure = draw(planes, list(measures.values()), foot="Not a reproduction.")
    assert [axes.get_title() for axes in figure.axes] == ["fresh", "shifted", "copies"]
    assert "AUC" in figure.axes[1].get_xlabel()
    figure.savefig(tmp_path / "figure1.png", dpi=80)
    assert (tmp_path / "figure1.png").stat().st_size > 10_000


def test_the_table_as_csv_and_markdown(measures):
    lines = list(csv.DictReader(io.StringIO(as_csv(list(measures.values())))))
    assert [line["arm"] for line in lines] == ["fresh", "fresh", "shifted", "copies"]
    assert float(lines[3]["copies"]) == 1.0
    assert [one.arm for one in average([measures["shifted", "online"]] * 2)] == ["shifted"]
    assert average([measures["shifted", "online"]] * 2)[0].swd == pytest.approx(measures["shifted", "online"].swd)
    assert as_markdown(list(measures.values())).count("\n") == 6


def test_refusals(sets, monkeypatch):
    real, generated = sets
    with pytest.raises(ValueError, match="label 'online' of fresh has no real rows, expected one of offline"):
        measure({"offline": real["offline"]}, {"fresh": {"online": real["online"]}}, 0, SMALL)
    with pytest.raises(ValueError, match="shown is 0, expected more than 0"):
        EmbeddingSettings(shown=0)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(
        ImportError, match=r"figure 1 needs scikit-learn, run pip install 'cfdg-experiments\[figures\]'"
    ):
        measure(real, generated, 0, SMALL)
