"""From a table to a synthetic one, and how good, useful and private that is.

    python examples/table.py

Needs pip install "cfdg-diffusion[report]". Trains for a minute on one half of the demo table; the other half judges.
"""

from __future__ import annotations

import sys

from cfdg_diffusion import TabularDiffusion, load_demo
from cfdg_diffusion.quality import report

QUICK = "--quick" in sys.argv


def main() -> None:
    """Fit, sample and report."""
    table = load_demo().head(400) if QUICK else load_demo()
    train = table.iloc[::2]
    holdout = table.iloc[1::2]
    model = TabularDiffusion(seed=0).fit(train, label="income", steps=20 if QUICK else 1_500)
    synthetic = model.sample(len(train))
    print(synthetic.head(), end="\n\n")
    print(report(train, synthetic, holdout, label="income"), end="\n\n")
    for name, rows in (("training", train), ("synthetic", synthetic)):
        print(f"hours of work in {name} rows: mean {rows['hours'].mean():.1f}, spread {rows['hours'].std():.1f}")


if __name__ == "__main__":
    main()
