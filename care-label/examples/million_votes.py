"""What `million_votes.rs` does, with pandas and statsmodels: labels by counting rules, Fleiss' and Cohen's kappa.

    pip install pandas statsmodels
    python million_votes.py votes.jsonl

There is no Dawid-Skene, no alpha, no AC1 and no interval here, which the Rust program computes in its time.
"""

import itertools
import resource
import sys
import time

import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

start = time.perf_counter()
votes = pd.read_json(sys.argv[1], lines=True)
read = time.perf_counter() - start
scored = votes[votes["state"] == "scored"]
table = scored.groupby(["query_id", "doc_id", "judge"])["score"].mean().unstack("judge")
complete = table.dropna()
positive = (table >= 4).where(table.notna())
number, for_it = positive.count(axis=1), positive.sum(axis=1)
labels = pd.DataFrame(
    {
        "unanimous": np.where(number < 3, "incomplete", np.where(for_it == 3, "+", np.where(for_it == 0, "-", "disputed"))),
        "majority": np.where(2 * for_it > number, "+", np.where(2 * for_it < number, "-", "disputed")),
        "mean": np.where(table.mean(axis=1) >= 4, "+", "-"),
        "median": np.where(table.median(axis=1) >= 4, "+", "-"),
    },
    index=table.index,
)
for rule in labels:
    print(rule, labels[rule].value_counts().to_dict())
signs = (complete >= 4).astype(int).to_numpy()
print("fleiss", fleiss_kappa(aggregate_raters(signs)[0]))
for first, second in itertools.combinations(range(signs.shape[1]), 2):
    confusion = pd.crosstab(signs[:, first], signs[:, second]).to_numpy()
    print("cohen", table.columns[first], table.columns[second], cohens_kappa(confusion).kappa)
everything = time.perf_counter() - start
print(f"{len(table)} pairs: {everything:.2f} s, of which reading {read:.2f} s")
print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
