"""The documents: commands that exist, links that lead somewhere, code that runs."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from cfdg_diffusion import TabularDiffusion
from cfdg_diffusion.cli import build_parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="tomllib is in Python 3.11 and newer")

ROOT = Path(__file__).parents[2]
READMES = sorted(ROOT.glob("packages/*/README.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *READMES]
REPOSITORY = tomllib.loads((ROOT / "packages/cfdg-diffusion/pyproject.toml").read_text(encoding="utf-8"))["project"][
    "urls"
]["Source"]
FILES = f"{REPOSITORY}/blob/main/"


def place(page, target):
    """The file that a link of a page leads to: of the checkout, whether it is named by path or by its address."""
    return ROOT / target.removeprefix(FILES) if target.startswith(FILES) else page.parent / target


def test_ci_runs_the_readmes_own_test_command():
    readme, script = (ROOT / name for name in ("README.md", ".ci/run"))
    assert "hatch run test:all" in readme.read_text(encoding="utf-8")
    assert [line for line in script.read_text(encoding="utf-8").splitlines() if line.startswith("hatch")] == [
        "hatch run test:all"
    ]


def test_every_hatch_command_in_the_documents_exists():
    environments = tomllib.loads((ROOT / "hatch.toml").read_text(encoding="utf-8"))["envs"]
    for page in PAGES:
        for environment, script in re.findall(r"hatch run (\w+):(\w+)", page.read_text(encoding="utf-8")):
            assert script in environments[environment]["scripts"], f"{page.name}: {environment}:{script}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_of_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if target.startswith(FILES) or not target.startswith(("http:", "https:")):
            assert place(page, target).exists(), f"{page.name} -> {target}"


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.parent.name)
def test_the_readme_of_a_package_has_absolute_links_only(page):
    """A package index shows it far from the repository."""
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not target.startswith(("https:", "#"))] == []


def test_every_address_of_the_repository_is_the_one_of_the_packages():
    for name in ("diffusion", "rl", "experiments"):
        project = tomllib.loads((ROOT / f"packages/cfdg-{name}/pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert project["urls"]["Source"] == REPOSITORY
        for address in project["urls"].values():
            assert address.startswith(REPOSITORY)
            assert not address.startswith(FILES) or place(ROOT, address).exists(), address
    for page in PAGES:
        for address in re.findall(r"https://[^\s)]+/blob/main/", page.read_text(encoding="utf-8")):
            assert address == FILES, f"{page.name}: {address}"


def anchors(page):
    """Names of a page's headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_a_heading_find_it(page):
    for target, heading in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(FILES) or not target.startswith(("http:", "https:")):
            leads_to = place(page, target) if target else page
            assert heading in anchors(leads_to), f"{page.name} -> {target}#{heading}"


def test_every_wish_names_tests_that_exist_where_the_link_leads():
    page = ROOT / "docs/wishes.md"
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", text)
    assert len(named) == len(re.findall(r"`test_\w+`", text)) > 0
    for name, target in named:
        assert f"def {name}(" in place(page, target).read_text(encoding="utf-8"), f"{name} in {target}"


def test_the_command_lines_of_the_documents_can_be_parsed():
    page = ROOT / "packages/cfdg-diffusion/README.md"
    lines = re.findall(r"^cfdg-diffusion .*$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {argv[1] for argv in map(parsed, lines)}
    assert named == {"fit", "sample", "impute", "report", "inspect"}
    known = {option for name in named for option in re.findall(r"--[a-z-]+", help_of(name))}
    assert set(re.findall(r"--[a-z][a-z-]+", " ".join(lines))) <= known


def parsed(line):
    """The words of a line whose note stands two spaces behind, after the command has taken them."""
    argv = shlex.split(re.split(r"\s{2,}", line)[0])
    build_parser().parse_args(argv[1:])
    return argv


def help_of(command):
    commands = next(action for action in build_parser()._actions if isinstance(action.choices, dict))
    return commands.choices[command].format_help()


def run_code(page):
    """Run the Python of a page with short trainings; returns what it left behind, and the number of blocks."""
    scope: dict[str, object] = {"__name__": page.stem}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for block in blocks:
        exec(compile(shortened(block), page.name, "exec"), scope)
    return scope, len(blocks)


def shortened(block):
    """The code of a page with fewer rows, a fiftieth of its steps and no time budget."""
    block = block.replace("load_demo()", "load_demo().head(400)").replace("sample(10_000)", "sample(200)")
    block = block.replace("sample(1_000", "sample(200").replace("stream(10_000, chunk=5_000", "stream(200, chunk=100")
    block = re.sub(r"\.fit\((table|train), ", r".fit(\1, steps=20, ", block.replace(", progress=True", ""))
    block = re.sub(r", time_budget=\d+", "", block)
    names = "steps|refresh_every|synthetic_rows"
    return re.sub(rf"\b({names})=(\d+)_000", lambda found: f"{found[1]}={20 * int(found[2])}", block)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder of its own, for what the pages write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_of_the_diffusion_readme_runs(folder):
    scope, blocks = run_code(ROOT / "packages/cfdg-diffusion/README.md")
    assert blocks >= 2
    assert scope["new"].shape == (4, 8)
    assert (folder / "model.safetensors").exists()
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("page", ["index", "columns", "guidance", "privacy", "sampling"])
@pytest.mark.usefixtures("folder")
def test_the_code_of_the_pages_on_tables_runs(page):
    scope, blocks = run_code(ROOT / f"docs/{page}.md")
    assert blocks
    assert scope["model"].history.steps


def test_the_code_of_the_tutorial_on_tables_runs(folder):
    scope, _ = run_code(ROOT / "docs/tutorials/tables.md")
    assert (scope["rich"]["income"] == "high").all()
    assert scope["even"]["income"].value_counts().tolist() == [100, 100, 100]
    kept = scope["train"].head(100)[["age", "region"]].reset_index(drop=True)
    assert scope["alike"][["age", "region"]].equals(kept)
    assert not scope["full"].isna().any().any()
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("page", ["own_environment", "new_algorithm"])
@pytest.mark.usefixtures("folder")
def test_the_code_of_the_tutorials_on_agents_runs(page):
    """Both end with an agent that was trained; their assertions are their own."""
    scope, blocks = run_code(ROOT / f"docs/tutorials/{page}.md")
    assert blocks >= 4
    agent = scope["agent"]
    obs = torch.zeros(len(agent.streams["exploration"]), 1, scope["pools"].obs_dim)
    assert agent.act(obs, explore=True).abs().max() <= 1


def test_the_model_file_holds_what_the_page_on_privacy_says_and_no_other_number(tmp_path):
    rng = np.random.default_rng(0)
    salary = rng.lognormal(10, 0.5, 400)
    names = np.where(np.arange(400) == 7, "Jane Roe", rng.choice(["Ada", "Alan"], 400))
    table = pd.DataFrame({"salary": salary, "name": names, "y": rng.choice(["a", "b"], 400, p=[0.9, 0.1])})
    TabularDiffusion().fit(table, label="y", steps=5).save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        header = file.metadata()["tree"]
        keys = list(file.keys())
        numbers = np.concatenate([file.get_tensor(key).ravel() for key in keys if key.startswith("schema/codec/")])
        counts = next(file.get_tensor(key) for key in keys if key == "schema/labels/counts")
    assert {"Jane Roe", str(salary.min()), str(salary.max())} <= set(re.findall(r"[\w.]+(?: Roe)?", header))
    assert sorted(counts) == sorted(table["y"].value_counts())
    units = 2.0 ** np.arange(0, 20)  # knots are divided by a power of two
    kept = np.isclose(salary[:, None, None], numbers[:, None] * units, rtol=1e-12, atol=0).any((1, 2))
    assert kept.sum() <= 2


def test_measured_parts_of_a_page_are_replaced_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    rewrite = importlib.import_module("markers").rewrite
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nafter\n", encoding="utf-8")
    rewrite(page, "speed", "new\n")
    assert page.read_text(encoding="utf-8") == "before\n<!-- speed:begin -->\nnew\n<!-- speed:end -->\nafter\n"
    with pytest.raises(ValueError, match=r"page\.md has no <!-- size:begin -->"):
        rewrite(page, "size", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


@pytest.mark.parametrize(("page", "name"), [("guidance", "guidance"), ("sampling", "sampling"), ("peers", "benchmark")])
def test_pages_have_the_places_that_benchmarks_fill(page, name):
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    assert text.index(f"<!-- {name}:begin -->") < text.index(f"<!-- {name}:end -->")


def test_fidelity_names_code_that_exists():
    """Each `file.py` of the page is one file of the packages, and the `name` behind it is in that file."""
    text = (ROOT / "docs/fidelity.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.(?:py|yaml))`(?:, `([\w.]+)`)?", text)
    assert len(named) > 30
    for path, name in named:
        (file,) = ROOT.glob(f"packages/*/src/*/{path}")
        assert name.rpartition(".")[2] in file.read_text(encoding="utf-8"), f"{path}: {name}"


def test_no_document_names_a_folder_of_one_machine():
    for page in PAGES:
        assert not re.search(r"(?<!\w)/(tmp|root|opt)/", page.read_text(encoding="utf-8")), page


def test_the_code_of_the_rl_readme_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path))
    page = ROOT / "packages/cfdg-rl/README.md"
    block = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    small = {
        '"recorded:hopper-medium"': '"recorded:hopper-medium", rows=1_000',
        "steps=20_000, refresh_every=5_000,": "steps=20, refresh_every=9, warm_up=5,",
        "steps=10_000, batch_size=256": "steps=5, batch_size=16",
    }
    for old, new in small.items():
        assert old in block, f"{old} is not in the first code of {page.name}"
        block = block.replace(old, new)
    scope: dict[str, object] = {}
    exec(compile(block, page.name, "exec"), scope)
    assert block.count("import") == 1
    assert scope["step"] == 20
    assert len(scope["pools"].online) == 20
    assert scope["metrics"]["loss/critic"].shape == (3,)
