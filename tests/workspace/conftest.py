"""What the pages' code needs to run."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def adult(tmp_path, monkeypatch):
    """A small ``adult.csv`` in the working folder, as the pages read it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = {
        "age": rng.integers(18, 90, 200),
        "sex": rng.choice(["m", "f"], 200),
        "hours": rng.normal(40, 9, 200).round(1),
    }
    pd.DataFrame({**rows, "income": rng.choice(["<=50K", ">50K"], 200)}).to_csv("adult.csv", index=False)
    return tmp_path
