"""Writes random_cases.json beside this file: 200 small rankings scored by pytrec_eval, and paired t-tests by scipy.

    pip install 'pytrec_eval-terrier==0.5.*' scipy
    python random_cases.py
"""

import json
import random
from pathlib import Path

import pytrec_eval
from scipy.stats import ttest_rel

MEASURES = {"ndcg", "ndcg_cut.1,3,10", "map", "map_cut.3,10", "recip_rank", "recall.1,5,10", "P.1,5,10", "success.1,5",
            "Rprec"}

rng = random.Random(20260719)


def case():
    """Up to 4 queries over up to 25 documents. Coarse scores tie; queries may be missing on either side.

    No query has only negative grades, on which pytrec_eval crashes or hangs.
    """
    docs = [f"d{i}" for i in range(rng.randint(1, 25))]
    decimals = rng.choice([0, 1, 1, 6])
    spread = rng.choice([1, 10])
    qrels, run = {}, {}
    for query in (f"q{i}" for i in range(rng.randint(1, 4))):
        if rng.random() < 0.9:
            judged = rng.sample(docs, rng.randint(1, len(docs)))
            qrels[query] = {doc: rng.choice([-1, -1, 0, 0, 0, 1, 1, 2, 3]) for doc in judged}
            if max(qrels[query].values()) < 0:
                qrels[query][judged[0]] = 0
        if rng.random() < 0.9:
            found = rng.sample(docs, rng.randint(1, len(docs)))
            run[query] = {doc: round(rng.uniform(-spread, spread), decimals) for doc in found}
    return qrels, run


def main():
    cases, tests = [], []
    while len(cases) < 200:
        qrels, run = case()
        if not set(qrels) & set(run):
            continue
        expected = pytrec_eval.RelevanceEvaluator(qrels, MEASURES).evaluate(run)
        cases.append({"qrels": qrels, "run": run, "expected": expected})
    for n in (2, 3, 10, 57, 400):
        first = [round(rng.random(), 3) for _ in range(n)]
        second = [round(min(1, max(0, value + rng.gauss(0.02, 0.1))), 3) for value in first]
        test = ttest_rel(second, first)
        tests.append({"first": first, "second": second, "p_value": float(test.pvalue)})
    text = json.dumps({"cases": cases, "t_tests": tests}, separators=(",", ":"))
    Path(__file__).with_name("random_cases.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
