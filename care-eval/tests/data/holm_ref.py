"""Writes holm.json: Holm's correction of lists of p-values, by statsmodels.

    pip install statsmodels
    python holm_ref.py
"""

import json
from pathlib import Path

import numpy as np
from statsmodels.stats.multitest import multipletests

LISTS = [
    [],
    [0.03],
    [0.01, 0.04, 0.03, 0.005],
    [0.02, 0.02, 0.02],
    [1.0, 0.6, 0.9, 0.0],
    [0.0001, 0.5, 0.0001, 0.0499, 0.05, 0.0501],
]

if __name__ == "__main__":
    random = np.random.default_rng(42)
    lists = LISTS + [np.round(random.random(size) ** 3, 4).tolist() for size in (7, 20, 50)]
    cases = [{"p": p, "holm": multipletests(p, method="holm")[1].tolist() if p else []} for p in lists]
    text = ",\n".join(json.dumps(case) for case in cases)
    (Path(__file__).parent / "holm.json").write_text(f"[\n{text}\n]\n")
