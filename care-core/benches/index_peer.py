"""Measures faiss's flat indexes as index.rs measures ours: `index_peer.py [--threads 2]`; needs faiss-cpu and numpy."""

import argparse
import json
import resource
import time

import faiss
import numpy as np

DOCUMENTS, DIM, QUERIES, K, PART = 1_000_000, 768, 100, 100, 10_000


def measure(name, index):
    rng = np.random.default_rng(42)
    random = lambda rows: rng.random((rows, DIM), dtype=np.float32) - 0.5
    queries = random(QUERIES)
    for _ in range(DOCUMENTS // PART):
        index.add(random(PART))
    best = min(search(index, queries) for _ in range(5))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    print(json.dumps({"format": name, "search_s": round(best, 3), "peak_mb": peak, "faiss": faiss.__version__}))


def search(index, queries):
    start = time.perf_counter()
    scores, _ = index.search(queries, K)
    assert scores.shape == (QUERIES, K)
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    faiss.omp_set_num_threads(parser.parse_args().threads)
    measure("f16", faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT))
    measure("f32", faiss.IndexFlatIP(DIM))
