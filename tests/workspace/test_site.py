"""The reference pages and the demo table: nothing public is missing."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from cfdg_diffusion import load_demo

ROOT = Path(__file__).parents[2]
API = sorted((ROOT / "docs/api").glob("*.md"))
PUBLIC = ("cfdg_diffusion", "cfdg_diffusion.edm", "cfdg_diffusion.tabular", "cfdg_diffusion.quality", "cfdg_rl")


def identifiers():
    """The names that the reference pages ask for."""
    return {name for page in API for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)}


def located(identifier):
    """The object of a dotted name, a module where the last part is one; its parents are modules even if shadowed."""
    parent, _, name = identifier.rpartition(".")
    module = importlib.import_module(parent)
    return getattr(module, name) if hasattr(module, name) else importlib.import_module(identifier)


def test_every_name_of_the_reference_exists():
    for identifier in identifiers():
        assert located(identifier) is not None, identifier


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(module):
    documented = [located(identifier) for identifier in identifiers()]
    names = importlib.import_module(module).__all__
    missing = [name for name in names if not any(located(f"{module}.{name}") is thing for thing in documented)]
    assert missing == []


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_class_and_function_has_a_docstring_of_its_own(module):
    for name in importlib.import_module(module).__all__:
        thing = located(f"{module}.{name}")
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, name
            assert not thing.__doc__.startswith(f"{name}("), f"{name} has the docstring of a dataclass"


def test_every_page_is_in_the_menu_and_every_menu_entry_is_a_page():
    tomllib = pytest.importorskip("tomllib", reason="tomllib is in Python 3.11 and newer")
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    menu = re.findall(r"'([^']+\.md)'", str(project["nav"]))
    assert sorted(menu) == sorted(str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md"))


def test_docstrings_become_markdown(monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    docstrings = importlib.import_module("docstrings")
    text = "Rows ``(R, N, D)``, see :func:`~cfdg_rl.finetune.refresh`."
    assert docstrings.as_markdown(text) == "Rows `(R, N, D)`, see `cfdg_rl.finetune.refresh`."


def test_the_demo_table_has_the_types_and_gaps_it_promises():
    table = load_demo()
    assert table.shape == (2_000, 7)
    assert [str(dtype) for dtype in table.dtypes[["age", "hours", "visits"]]] == ["int64", "float64", "Int64"]
    assert table["joined"].dtype.kind == "M"
    assert table["income"].cat.categories.tolist() == ["low", "middle", "high"]
    assert table["income"].cat.ordered
    assert table["age"].between(18, 90).all()
    assert set(table.columns[table.isna().any()]) == {"education", "hours", "visits"}
    assert load_demo() is not table


def test_the_demo_table_follows_the_law_that_its_script_states(monkeypatch):
    """Another draw has the same columns and, to sampling error, the same moments: 5 standard errors."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    law = importlib.import_module("demo_table")
    table = load_demo()
    other = law.draw(rows=20_000, seed=1)
    assert list(other.columns) == list(table.columns)
    for name in ("age", "hours", "visits"):
        error = table[name].std() / len(table) ** 0.5
        assert abs(table[name].mean() - other[name].mean()) < 5 * error, name
    shares = pd.concat([part["income"].astype(str).value_counts(normalize=True) for part in (table, other)], axis=1)
    assert (shares.iloc[:, 0] - shares.iloc[:, 1]).abs().max() < 5 * (0.25 / len(table)) ** 0.5
    sys.modules.pop("demo_table")
