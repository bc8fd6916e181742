"""The measurement of throughput.rs with pytrec_eval: `throughput_peer.py FOLDER`; requires pytrec_eval-terrier."""

import json
import resource
import sys
import time

import pytrec_eval

MEASURES = {"ndcg_cut.10", "ndcg", "map", "recip_rank", "recall.100", "P.10"}


def main(folder):
    start = time.perf_counter()
    with open(f"{folder}/qrels.txt") as file:
        qrels = pytrec_eval.parse_qrel(file)
    with open(f"{folder}/run.txt") as file:
        run = pytrec_eval.parse_run(file)
    read = time.perf_counter() - start
    start = time.perf_counter()
    scores = pytrec_eval.RelevanceEvaluator(qrels, MEASURES).evaluate(run)
    scored = time.perf_counter() - start
    means = {name: sum(of[name] for of in scores.values()) / len(scores) for name in next(iter(scores.values()))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    print(json.dumps({"read_s": read, "score_s": scored, "peak_mb": peak, "queries": len(scores), "measures": means}))


if __name__ == "__main__":
    main(sys.argv[1])
