"""Votes and what crowd-kit's Dawid-Skene makes of them: `dawid_skene.json`.

    pip install crowd-kit==1.4.2 pandas numpy
    python make_dawid_skene.py

crowd-kit starts from the shares of votes and has no smoothing, as we with smoothing 0; it clips probabilities at 1e-10. It is
run for a fixed number of iterations: its own criterion (`tol`) follows a bound that counts the prior once per vote, and stops
short of the maximum (third case: log-likelihood -259.14 with tol = 1e-13, -258.58 at the maximum). After n iterations it has
n E-steps and n + 1 M-steps behind it.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from crowdkit.aggregation import DawidSkene


def case(seed, pairs, judges, points, missing, iterations):
    rng = np.random.default_rng(seed)
    truth = rng.choice(points, size=pairs, p=rng.dirichlet(np.full(points, 3.0)))
    rows = []
    # Each judge is right with its own probability, and errs towards near points.
    skills = rng.uniform(0.6, 0.9, size=judges)
    for pair in range(pairs):
        row = []
        for skill in skills:
            if rng.random() < missing:
                row.append(None)
            elif rng.random() < skill:
                row.append(int(truth[pair]))
            else:
                away = 0.5 ** np.abs(np.arange(points) - truth[pair])
                away[truth[pair]] = 0
                row.append(int(rng.choice(points, p=away / away.sum())))
        if all(vote is None for vote in row):
            row[0] = int(truth[pair])
        rows.append(row)
    frame = pd.DataFrame(
        [(pair, judge, vote) for pair, row in enumerate(rows) for judge, vote in enumerate(row) if vote is not None],
        columns=["task", "worker", "label"],
    )
    model = DawidSkene(n_iter=iterations, tol=-1.0).fit(frame)
    labels = list(range(points))
    probabilities = model.probas_.reindex(range(pairs))[labels]
    return {
        "points": points,
        "iterations": iterations,
        "rows": rows,
        "prior": model.priors_[labels].tolist(),
        "posterior": probabilities.round(10).values.tolist(),
        # Per judge and true point, the probability of each vote.
        "confusion": [
            model.errors_.loc[judge].reindex(labels).fillna(0)[labels].T.round(10).values.tolist() for judge in range(judges)
        ],
    }


cases = [
    case(1, 60, 3, 2, 0.0, 25),
    case(2, 60, 5, 2, 0.2, 300),
    case(3, 80, 4, 3, 0.1, 300),
]
path = Path(__file__).with_name("dawid_skene.json")
path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
print(path, path.stat().st_size)
