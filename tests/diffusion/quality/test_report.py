"""The report as a whole: who wins, who loses, what is shown, what is refused."""

import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")

from cfdg_diffusion.quality import report
from cfdg_diffusion.quality.tables import read_tables
from cfdg_diffusion.quality.verdicts import headlines

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "br"}


def draw(rows, seed):
    """Skew, a spike, dates, missing values, dependent levels, a hostile name and a label that depends on them."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 3))
    region = rng.choice(["north", "south", "<b>east</b>"], rows, p=[0.5, 0.3, 0.2])
    income = np.exp(z[:, 0] + (region == "north"))
    member = pd.array(z[:, 1] > 0, dtype="boolean")
    member[rng.random(rows) < 0.1] = pd.NA
    chance = 1 / (1 + np.exp(-2 * (np.log(income) - 1 + z[:, 2])))
    return pd.DataFrame(
        {
            "income": np.where(rng.random(rows) < 0.05, np.nan, income),
            "hours": np.where(rng.random(rows) < 0.4, 40, np.round(38 + 10 * z[:, 2])).astype(int),
            "region": region,
            "town": np.char.add(region.astype("U12"), rng.integers(0, 4, rows).astype(str)),
            "joined": pd.Timestamp("2020-01-01", tz="Europe/Paris") + pd.to_timedelta(400 + 100 * z[:, 1], unit="D"),
            "member": member,
            "plan": pd.Categorical(np.where(income > 2, "gold", "basic"), ["basic", "gold"], ordered=True),
            HOSTILE: rng.poisson(1, rows),
            "label": np.where(rng.random(rows) < 0.03, "rare", np.where(rng.random(rows) < chance, "yes", "no")),
        }
    )


def independent(frame, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: frame[name].array[rng.permutation(len(frame))] for name in frame})


TRAIN, HOLDOUT = draw(1500, 0), draw(1500, 1)


@pytest.fixture(scope="module")
def fresh():
    return report(TRAIN, draw(1500, 2), HOLDOUT, label="label")


@pytest.fixture(scope="module")
def without_dependence():
    return report(TRAIN, independent(TRAIN, 3), HOLDOUT, label="label")


@pytest.fixture(scope="module")
def copied():
    return report(TRAIN, TRAIN.sample(frac=1, random_state=0), HOLDOUT, label="label")


class Page(HTMLParser):
    """Checks that tags nest, and keeps them."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def verdicts(found):
    return {line.name: line.verdict for line in headlines(found)}


def test_a_fresh_real_draw_is_good_everywhere(fresh):
    assert fresh.detection.auc.value == pytest.approx(0.5, abs=0.06)
    assert fresh.detection.floor.value == pytest.approx(0.5, abs=0.06)
    assert fresh.shapes.mean == pytest.approx(fresh.shapes.baseline, abs=0.015)
    assert fresh.trends.mean == pytest.approx(fresh.trends.baseline, abs=0.015)
    assert abs(fresh.utility.difference) < 0.05
    assert set(verdicts(fresh).values()) <= {"good", "fair"}
    assert verdicts(fresh)["Detection (AUC)"] == "good"


def test_columns_without_dependence_lose_on_everything_but_shapes(fresh, without_dependence):
    found = without_dependence
    assert found.shapes.mean == pytest.approx(fresh.shapes.mean, abs=0.015)
    assert found.detection.auc.low > 0.8
    assert found.trends.mean < found.trends.baseline - 0.03
    assert found.trends.kept.high < 0.4
    assert found.utility.synthetic < 0.62 < 0.7 < found.utility.real
    lost = verdicts(found)
    assert [lost[name] for name in ("Detection (AUC)", "Dependence kept", "Utility (AUC)")] == ["poor"] * 3
    assert not any("shape" in name.lower() for name in lost)


def test_copies_win_on_quality_and_lose_on_privacy(copied):
    assert copied.shapes.mean == pytest.approx(copied.shapes.baseline)
    assert copied.trends.mean == pytest.approx(copied.trends.baseline)
    assert copied.trends.kept.value == pytest.approx(1)
    lost = verdicts(copied)
    assert lost["Closest to training rows"] == lost["Exact copies"] == lost["Membership attack (AUC)"] == "poor"


def test_classes_have_their_shares_and_scores(fresh, without_dependence):
    classes = {score.name: score for score in fresh.utility.classes}
    assert set(classes) == {"yes", "no", "rare"}
    for name, score in classes.items():
        assert score.share_real == pytest.approx((HOLDOUT["label"] == name).mean())
        assert score.share_synthetic == pytest.approx((draw(1500, 2)["label"] == name).mean())
    assert classes["yes"].recall_synthetic == pytest.approx(classes["yes"].recall_real, abs=0.1)
    assert classes["yes"].detection.value == pytest.approx(0.5, abs=0.1)
    assert classes["rare"].detection is None  # some 45 rows
    assert {score.name: score for score in without_dependence.utility.classes}["yes"].detection.value > 0.8


def test_recall_and_precision_by_hand():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 400)
    real = pd.DataFrame({"x": x, "y": np.where(x == 1, "one", "zero")})
    swapped = real.assign(y=np.where(x == 1, "zero", "one"))
    for score in report(real, swapped, real, label="y").utility.classes:
        assert (score.recall_real, score.precision_real) == (1, 1)
        assert (score.recall_synthetic, score.precision_synthetic) == (0, 0)


def test_a_numeric_label_is_regressed_on():
    def line(seed, slope):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=600)
        return pd.DataFrame({"x": x, "y": slope * x + 0.5 * rng.normal(size=600)})

    found = report(line(0, 1), line(1, -1), line(2, 1), label="y").utility
    assert (found.metric, found.classes) == ("R2", ())
    assert found.real == pytest.approx(0.8, abs=0.08)  # 1 - 0.25 / 1.25
    assert found.synthetic < -1.5  # the slope turned: 1 - (4 + 0.25) / 1.25 = -2.4
    assert found.difference == found.synthetic - found.real


def test_without_a_holdout_there_is_no_yardstick_and_no_privacy():
    found = report(TRAIN[:300], draw(300, 2), label="label")
    assert (found.reference, found.detection.reference) == ("train", "train")
    assert found.privacy is None
    assert found.utility.real is None
    assert found.shapes.baseline is found.trends.baseline is found.detection.floor is None
    assert "no holdout" in str(found)


def test_copies_without_a_holdout_show_as_an_auc_below_one_half():
    found = report(TRAIN[:300], TRAIN[:300])
    assert found.detection.auc.high < 0.5
    assert verdicts(found)["Detection (AUC)"] == "poor"


def test_the_same_seed_gives_the_same_report_and_the_order_of_columns_does_not_matter():
    parts = TRAIN[:200], draw(200, 2), HOLDOUT[:200]
    first = report(*parts, label="label", seed=3, rows=150)
    again = report(parts[0], parts[1][list(parts[1])[::-1]], parts[2], label="label", seed=3, rows=150)
    assert first == again
    assert first.sizes.compared_synthetic == 150
    assert first != report(*parts, label="label", seed=4, rows=150)


def test_the_dict_is_plain_json(fresh):
    plain = fresh.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["detection"]["auc"]["value"] == fresh.detection.auc.value


def test_the_text_names_the_numbers_and_no_control_characters(without_dependence):
    text = str(without_dependence)
    assert f"{without_dependence.detection.auc.value:.3f}" in text
    assert "poor" in text
    hostile = TRAIN[:100].rename(columns={"town": "a\x1b[31m\nb"})
    assert "\x1b" not in str(report(hostile, hostile))


def test_the_page_is_well_formed_self_contained_and_escaped(without_dependence, tmp_path):
    path = without_dependence.to_html(tmp_path / "deep" / "report.html", title=f"{HOSTILE} & co")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert {"svg", "table", "style"} <= page.seen
    assert not page.seen & {"script", "b", "img", "link", "iframe"}
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)" in text
    assert list(path.parent.iterdir()) == [path]


def test_a_page_of_every_kind_of_hard_column_is_well_formed(tmp_path):
    def hard(seed):
        rng = np.random.default_rng(seed)
        return pd.DataFrame(
            {
                "constant": 1,
                "empty": np.nan,
                "none": None,
                "almost": np.where(np.arange(40) == seed, 1.0, np.nan),
                "unique": [f"{seed}-{row}" for row in range(40)],
                "huge": rng.standard_cauchy(40) * 1e12,
                "big": rng.integers(0, 2**62, 40),
                "wait": pd.to_timedelta(rng.random(40), unit="h"),
                "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.random(40), unit="h"),
            }
        ).convert_dtypes()

    found = report(hard(0), hard(1), hard(2), label="unique")
    assert Page(found.to_html(tmp_path / "hard.html").read_text(encoding="utf-8")).open == []
    json.dumps(found.to_dict(), allow_nan=False)


def moments(dtype, last):
    """A hundred dates of 2020 with ten no-end dates between them, and a missing one."""
    days = np.datetime64("2020-01-01T07:30", "s") + np.arange(100) * np.timedelta64(90_001, "s")
    days[::10] = np.datetime64(last, "s")
    days[1] = np.datetime64("NaT")
    own = pd.Series(days)
    own = own.dt.tz_localize("UTC") if "UTC" in dtype else own
    return pd.DataFrame({"end": own.astype(dtype), "n": np.arange(100) % 7})


@pytest.mark.parametrize("last", ["9999-12-31", "12024-01-01"])
@pytest.mark.parametrize("dtype", ["M8[s]", "M8[us]", "datetime64[us, UTC]", "timestamp[s][pyarrow]"])
def test_dates_that_nanoseconds_do_not_reach_are_compared(dtype, last, tmp_path):
    """No-end dates are read in the unit of their column, here in a report of a table against itself."""
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    table = moments(dtype, last)
    found = report(table, table)
    (end, _) = found.shapes.columns
    assert (end.kind, end.score) == ("datetime", 1.0)
    assert end.bars.labels[-2].endswith(f" to {last}")
    assert sum(end.bars.real) == pytest.approx(1.0)
    assert found.to_html(tmp_path / "r.html").exists()


def test_the_same_moments_are_equal_in_every_unit_and_zone():
    """1969-12-31T23:59:58.5 and the like as seconds since 1970, from several dtypes and from objects."""
    texts = ["1969-12-31T23:59:58.500", "2020-06-01T12:00:00.250", None]
    plain = pd.Series(pd.to_datetime(texts))
    local = plain.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    frames = [pd.DataFrame({"t": form}) for form in (plain, plain.astype("M8[ms]"), local, plain.astype(object))]
    for frame in frames:
        read = read_tables(frame, frame, None, 1)
        assert read.columns[0].kind == "datetime"
        assert np.array_equal(read.train[:, 0], [-1.5, 1591012800.25, np.nan], equal_nan=True)
    assert read.columns[0].text(-1.5) == "1969-12-31 23:59"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_and_days_of_arrow_are_numbers(unit):
    """Arrow's durations and dates are kinds with an order, as NumPy's are, not levels."""
    pa = pytest.importorskip("pyarrow")
    own = pd.Series([90, None, 30], dtype="Int64")
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    wait = (own * per_second).astype(pd.ArrowDtype(pa.int64())).astype(pd.ArrowDtype(pa.duration(unit)))
    day = pd.Series(["2020-01-02", None, "9999-12-31"]).astype(pd.ArrowDtype(pa.date32()))
    table = pd.DataFrame({"wait": wait, "day": day})
    plain = pd.DataFrame({"wait": wait.astype(f"m8[{unit}]"), "day": day.astype("M8[s]")})
    read = read_tables(table, plain, None, 1)
    assert [column.kind for column in read.columns] == ["duration", "datetime"]
    assert np.array_equal(read.train, read.synthetic, equal_nan=True)
    assert np.array_equal(read.train[:, 0], [90, np.nan, 30], equal_nan=True)


@pytest.mark.parametrize("column", ["region", "hours"])
def test_a_table_of_one_column_has_no_pairs(column, tmp_path):
    parts = [frame[[column]][:100] for frame in (TRAIN, HOLDOUT, draw(100, 2))]
    found = report(*parts, label=column)
    assert found.trends is None
    assert found.to_html(tmp_path / "one.html").exists()


def test_more_levels_than_a_tree_can_tell_apart():
    def many(seed):
        rng = np.random.default_rng(seed)
        level = rng.integers(0, 1000, 3000)
        return pd.DataFrame({"level": np.char.add("v", level.astype(str)), "x": level % 2 + rng.normal(size=3000)})

    found = report(many(0), many(1), many(2))
    assert found.detection.auc.value == pytest.approx(0.5, abs=0.04)


FRAME = TRAIN[:40]


@pytest.mark.parametrize(
    ("synthetic", "options", "message"),
    [
        (FRAME.drop(columns="hours"), {}, "synthetic lacks the column 'hours', expected the columns of real_train"),
        (FRAME.assign(extra=1), {}, "synthetic has a column 'extra', expected only the columns of real_train"),
        (FRAME.assign(hours="long"), {}, "column 'hours' is a category in synthetic .* but a number in real_train"),
        (FRAME.assign(region=1), {}, "column 'region' is a number in synthetic .* but a category in real_train"),
        (FRAME.assign(hours=np.inf), {}, "column 'hours' of synthetic holds an infinite number"),
        (FRAME.assign(region=[[1]] * 40), {}, "column 'region' holds values that cannot be compared"),
        (FRAME[:0], {}, "synthetic has 0 rows and 9 columns, expected at least 10 rows"),
        (FRAME[:9], {}, "synthetic has 9 rows"),
        (pd.concat([FRAME, FRAME["hours"]], axis=1), {}, "synthetic has the column 'hours' more than once"),
        (FRAME.to_numpy(), {}, "synthetic is a ndarray, expected a pandas DataFrame"),
        (FRAME, {"label": "nope"}, "the label 'nope' is no column of real_train, expected one of 'income'"),
        (FRAME, {"label": ["label"]}, "the label .* is no column"),
        (FRAME.assign(label=None), {"label": "label"}, "the label column 'label' has no value in synthetic"),
        (FRAME, {"rows": 9}, "rows is 9, expected at least 10"),
    ],
)
def test_wrong_input_gets_one_sentence(synthetic, options, message):
    with pytest.raises(ValueError, match=message):
        report(FRAME, synthetic, HOLDOUT, **options)


def test_real_identifiers_in_a_synthetic_table_are_told(tmp_path):
    """Columns of 95 % different texts: ids that come back are told, new ones and numbers are not."""
    ids = [f"<{row}>" for row in range(100)]
    real = pd.DataFrame({"id": ids, "new": ids, "few": ["a", "b"] * 50, "n": range(100)})
    drawn = real.assign(id=ids[:60] + ["<x>"] * 20 + [None] * 20, new=[f"n{row}" for row in range(100)])
    found = report(real, drawn)
    assert [(own.name, own.real, own.synthetic) for own in found.identifiers] == [("id", 60, 80)]
    sentence = "id: nearly every training row has its own value, and 60 of 80 synthetic values are among them"
    assert sentence in str(found)
    assert sentence in found.to_html(tmp_path / "r.html").read_text()
    assert found.to_dict()["identifiers"][0]["real"] == 60
    assert report(real, real.head(40)[["few", "n"]].assign(id=None, new=None)).identifiers == ()
