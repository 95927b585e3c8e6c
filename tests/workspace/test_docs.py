"""The documents: commands that exist, links that lead somewhere, code that runs."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="tomllib is in Python 3.11 and newer")

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")]


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
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_code_of_the_diffusion_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "packages/cfdg-diffusion/README.md").read_text(encoding="utf-8")
    scope: dict[str, object] = {}
    rng = np.random.default_rng(0)
    rows = {"age": rng.integers(18, 90, 200), "sex": rng.choice(["m", "f"], 200)}
    pd.DataFrame({**rows, "income": rng.choice(["<=50K", ">50K"], 200)}).to_csv("adult.csv", index=False)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for block in blocks:
        exec(
            compile(
                block.replace("steps=1_000", "steps=20").replace(", progress=True", ", steps=20"), "README.md", "exec"
            ),
            scope,
        )
    assert len(blocks) >= 2
    assert scope["new"].shape == (4, 8)
    assert (tmp_path / "model.safetensors").exists()


def test_no_document_names_a_folder_of_one_machine():
    for page in PAGES:
        assert not re.search(r"(?<!\w)/(tmp|root|opt)/", page.read_text(encoding="utf-8")), page
