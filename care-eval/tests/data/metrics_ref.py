"""Writes metrics_case.json beside this file; README.md describes it."""

import json
import random
from pathlib import Path

import numpy as np
import pytrec_eval
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import paired_cosine_distances

MEASURES = {"ndcg_cut.1,3,5,10", "map_cut.10", "map", "recip_rank", "recall.1,3,5,10,20", "P.10", "success.1,10"}

rng = random.Random(20260118)


def rankings():
    """Qrels and a run. Scores have one decimal, so ties are frequent; "d2" > "d10", since ids compare as strings."""
    docs = [f"d{i}" for i in range(60)]
    qrels, run = {}, {}
    for i in range(12):
        q = f"q{i}"
        relevant = rng.sample(docs, rng.randint(1, 8))
        qrels[q] = {d: rng.choice([1, 1, 1, 2, 3]) for d in relevant}
        for d in rng.sample([d for d in docs if d not in relevant], 6):
            qrels[q][d] = 0
        found = [d for d in relevant if rng.random() < 0.7]
        candidates = list(dict.fromkeys(found + rng.sample(docs, rng.choice([8, 25, 40]))))
        rng.shuffle(candidates)
        run[q] = {d: round(rng.random() * (1 + 0.8 * (qrels[q].get(d, 0) > 0)), 1) for d in candidates}

    qrels["q_only_zero"] = {"d1": 0, "d2": 0}  # judged, nothing relevant
    run["q_only_zero"] = {"d1": 0.9, "d3": 0.5}
    qrels["q_missing"] = {"d5": 1}  # not in the run
    run["q_surplus"] = {"d5": 1.0}  # not in the qrels
    run["q_alltied"] = {d: 0.5 for d in docs[:15]}
    qrels["q_alltied"] = {"d0": 1, "d9": 1, "d14": 2}
    qrels["q_neg"] = {"d1": -1, "d2": 1, "d3": 2}  # a negative label
    run["q_neg"] = {"d1": 3.0, "d2": 2.0, "d3": 1.0}
    run["q_noneret"] = {"d7": 1.0}  # nothing relevant retrieved
    qrels["q_noneret"] = {"d8": 1}
    return qrels, run


def reciprocal_rank_at_10(judged, scores):
    order = sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return next((1 / (i + 1) for i, (d, _) in enumerate(order[:10]) if judged.get(d, 0) > 0), 0.0)


def average_precision_at_10(labels, relevant):
    hits, total = 0, 0
    for i, label in enumerate(labels[:10]):
        if label:
            hits += 1
            total += hits / (i + 1)
    return total / relevant


def reranking_lists():
    lists = []
    for _ in range(10):
        positives, negatives = rng.randint(1, 4), rng.randint(1, 14)
        pos = [round(rng.random() * 1.5, 1) for _ in range(positives)]
        lists.append({"pos": pos, "neg": [round(rng.random() * 1.2, 1) for _ in range(negatives)]})
    lists[3] = {"pos": [0.5, 0.5], "neg": [0.5, 0.5, 0.5]}  # all tied
    return lists


def rerank(pos, neg):
    scores = pos + neg
    labels = np.array([1] * len(pos) + [0] * len(neg))
    ids = [f"apos{i}" for i in range(len(pos))] + [f"neg{i}" for i in range(len(neg))]
    judged = {d: int(label) for d, label in zip(ids, labels)}
    evaluator = pytrec_eval.RelevanceEvaluator({"q": judged}, {"map_cut.10", "map", "ndcg_cut.10"})
    trec = evaluator.evaluate({"q": dict(zip(ids, scores))})["q"]
    stable = labels[np.argsort(-np.array(scores), kind="stable")]
    against = labels[sorted(range(len(scores)), key=lambda i: (-scores[i], labels[i]))]
    return {
        "sklearn_ap": float(average_precision_score(labels, scores)),
        "trec_map_10": trec["map_cut_10"],
        "trec_map": trec["map"],
        "ndcg_10": trec["ndcg_cut_10"],
        "map10_stable_input_order": average_precision_at_10(stable, len(pos)),
        "map10_ties_against": average_precision_at_10(against, len(pos)),
    }


def correlations(x, y):
    return {"pearson": float(pearsonr(x, y)[0]), "spearman": float(spearmanr(x, y)[0])}


def sentence_pairs():
    normal = np.random.default_rng(7)
    a = normal.standard_normal((40, 16)).astype(np.float32)
    b = (a * normal.random((40, 1)) + normal.standard_normal((40, 16)) * 0.7).astype(np.float32)
    b[5] = a[5]  # cosine 1
    b[6] = -a[6]  # cosine -1
    b[7] = a[8]
    a[7] = a[8]  # cosine 1 again: a tie
    cos = 1 - paired_cosine_distances(a, b)
    y = [float(np.clip(round(2.5 + 3 * c + noise), 0, 5)) for c, noise in zip(cos, normal.standard_normal(40))]
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "y": y,
        "cos": cos.tolist(),
        "graded": correlations(cos, y),
        "binary": correlations(cos, [float(label > 2) for label in y]),
    }


def main():
    qrels, run = rankings()
    per_query = pytrec_eval.RelevanceEvaluator(qrels, MEASURES).evaluate(run)
    evaluated = sorted(per_query)
    names = list(per_query[evaluated[0]])
    lists = reranking_lists()
    reranked = [rerank(**scores) for scores in lists]
    case = {
        "qrels": qrels,
        "run": run,
        "per_query": {q: {name: float(value) for name, value in row.items()} for q, row in per_query.items()},
        "mean_evaluated": {name: float(np.mean([per_query[q][name] for q in evaluated])) for name in names},
        "mean_all_qrels": {name: sum(per_query[q][name] for q in evaluated) / len(qrels) for name in names},
        "mrr10": {q: reciprocal_rank_at_10(qrels[q], run[q]) for q in evaluated},
        "rerank": [scores | values for scores, values in zip(lists, reranked)],
        "rerank_mean": {name: float(np.mean([values[name] for values in reranked])) for name in reranked[0]},
        "sts": sentence_pairs(),
    }
    Path(__file__).with_name("metrics_case.json").write_text(json.dumps(case))


if __name__ == "__main__":
    main()
