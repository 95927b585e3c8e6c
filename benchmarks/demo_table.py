"""The demo table of cfdg-diffusion, drawn from an invented law.

    python benchmarks/demo_table.py

Nobody in it exists: every number below is made up, no data of real people was used. The file that is written lies in
the package and is read by ``cfdg_diffusion.load_demo``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

TARGET = Path(__file__).parents[1] / "packages/cfdg-diffusion/src/cfdg_diffusion/tabular/demo.csv"
EDUCATION = ("primary", "secondary", "college", "university")
REGIONS = {"north": 0.38, "east": 0.27, "south": 0.22, "west": 0.10, "islands": 0.03}
INCOME = ("low", "middle", "high")
FIRST_DAY = pd.Timestamp("2010-01-04")
DAYS = 5_500  # until the end of January 2025


def draw(rows: int, seed: int) -> pd.DataFrame:
    """People of a sports club: ``rows`` of them, with missing cells and a rare income class."""
    rng = np.random.default_rng(seed)
    age = np.clip(18 + rng.gamma(2.6, 9.5, rows), 18, 90).astype(int)
    education = _education(rng, age)
    hours = _hours(rng, age)
    visits = rng.poisson(np.where(age < 65, 1.2 + 60 / (hours + 20), 3.5))
    joined = FIRST_DAY + pd.to_timedelta(_days(rng, age), unit="D")
    table = {
        "age": age,
        "education": np.array(EDUCATION)[education],
        "region": rng.choice(list(REGIONS), rows, p=list(REGIONS.values())),
        "hours": np.where(rng.random(rows) < 0.06, np.nan, hours),
        "visits": pd.array(visits, dtype="Int64"),
        "joined": joined,
        "income": np.array(INCOME)[_income(rng, age, education, hours)],
    }
    found = pd.DataFrame(table)
    found.loc[rng.random(rows) < 0.02 + 0.15 * (age > 70), "visits"] = pd.NA  # older people are asked less often
    found.loc[rng.random(rows) < 0.04, "education"] = None
    return found


def _education(rng: np.random.Generator, age: np.ndarray) -> np.ndarray:
    """Levels 0 to 3: younger people stayed at school longer, and nobody under 22 has finished university."""
    latent = rng.normal(1.9 - 0.018 * (age - 18), 0.9)
    return np.minimum(np.clip(np.floor(latent), 0, 3), np.where(age < 22, 2, 3)).astype(int)


def _hours(rng: np.random.Generator, age: np.ndarray) -> np.ndarray:
    """Paid hours a week in halves: a spike at 40, part time, none for most beyond 66."""
    full = rng.random(len(age)) < 0.55
    worked = np.where(full, 40, np.clip(rng.normal(31, 11, len(age)), 4, 70))
    return np.where((age > 66) & (rng.random(len(age)) < 0.8), 0, np.round(2 * worked) / 2)


def _days(rng: np.random.Generator, age: np.ndarray) -> np.ndarray:
    """Days from the first to that of joining: at 16 at the earliest, more in recent years."""
    earliest = np.maximum(0, DAYS - 365.25 * (age - 16))
    return (earliest + (DAYS - earliest) * rng.beta(1.6, 1.0, len(age))).astype(int)


def _income(rng: np.random.Generator, age: np.ndarray, education: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Classes 0 to 2, the last of about one person in twelve."""
    score = 0.9 * education + 0.05 * hours + 0.03 * np.minimum(age, 60) + rng.logistic(0, 0.5, len(age))
    return np.digitize(score, (3.4, 5.6))


def main() -> None:
    """Write the table that the package ships."""
    draw(rows=2_000, seed=0).to_csv(TARGET, index=False)


if __name__ == "__main__":
    main()
