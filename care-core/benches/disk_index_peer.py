"""Lets faiss, usearch and the index on disk take turns on the same vectors; needs faiss-cpu, usearch and numpy.

    cargo bench -p care-core --features simd,approximate --bench disk_index --no-run
    python3 disk_index_peer.py PROGRAM FOLDER ROWS DIM [FILES] [--graphs] [--rounds 5] [--threads 2]

PROGRAM is what the first command built. FOLDER keeps the vectors; FILES are documents.npy and queries.npy, by default vectors
are random. Prints a JSON object per way of searching: the seconds of the fastest of the rounds for the 10 best documents of 1 query
and of 100, recall@10, and the seconds and the memory that building took. Without --graphs, the ways are those that look at every
vector; with it, HNSW (16 links, 128 candidates while building) by faiss over bytes, by usearch, and in the index on disk.
"""

import argparse
import json
import subprocess
import time

import faiss
import numpy as np
from usearch.index import Index

K = 10


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 1_000_000


def flat(vectors):
    index = faiss.IndexFlatIP(vectors.shape[1])
    add(index, vectors)
    return lambda queries: index.search(queries, K)[1]


def sq8(vectors):
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(np.ascontiguousarray(vectors[:50_000]))
    add(index, vectors)
    return lambda queries: index.search(queries, K)[1]


def faiss_hnsw(vectors):
    quantizer = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexHNSWSQ(vectors.shape[1], quantizer, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 128
    index.train(np.ascontiguousarray(vectors[:50_000]))
    add(index, vectors)

    def search(queries, ef):
        index.hnsw.efSearch = ef
        return index.search(queries, K)[1]

    return search


def usearch_hnsw(threads, dtype):
    def build(vectors):
        index = Index(ndim=vectors.shape[1], metric="ip", dtype=dtype, connectivity=16, expansion_add=128)
        for start in range(0, len(vectors), 10_000):
            part = np.ascontiguousarray(vectors[start : start + 10_000])
            index.add(np.arange(start, start + len(part)), part, threads=threads)

        def search(queries, ef):
            index.expansion_search = ef
            return np.atleast_2d(index.search(queries, K, threads=threads).keys)

        return search

    return build


def add(index, vectors):
    for start in range(0, len(vectors), 10_000):
        index.add(np.ascontiguousarray(vectors[start : start + 10_000]))


class Ours:
    def __init__(self, arguments, graphs):
        options = ["--serve"] + ["--graph"] * graphs
        command = [arguments.program, str(arguments.rows), str(arguments.dim), *arguments.files, "--folder", arguments.folder]
        self.process = subprocess.Popen(command + options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while (line := self.process.stdout.readline().strip()) != "ready":
            assert line, "the program ended"
            print(line, flush=True)

    def search(self, name, count):
        print(name, count, file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return answer["s"], np.array(answer["rows"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("rows", type=int)
    parser.add_argument("dim", type=int)
    parser.add_argument("files", nargs="*", default=[])
    parser.add_argument("--graphs", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_intermixed_args()
    faiss.omp_set_num_threads(arguments.threads)
    ours = Ours(arguments, arguments.graphs)
    vectors = np.memmap(f"{arguments.folder}/index/segment-0/vectors", np.float32, "r", shape=(arguments.rows, arguments.dim))
    queries = np.fromfile(f"{arguments.folder}/queries", np.float32).reshape(-1, arguments.dim)
    if arguments.graphs:
        graph = lambda build: {"build": build, "ways": {ef: {"ef": ef} for ef in (64, 256)}}
        peers = {"faiss IndexHNSWSQ": graph(faiss_hnsw), "usearch i8": graph(usearch_hnsw(arguments.threads, "i8"))}
        peers["usearch bf16"] = graph(usearch_hnsw(arguments.threads, "bf16"))
        names = ["flat", "graph-64", "graph-256"]
    else:
        exact = lambda build: {"build": build, "ways": {"": {}}}
        peers = {"faiss IndexFlatIP": exact(flat), "faiss QT_8bit": exact(sq8)}
        names = ["flat", "exact", "int8", "binary", "binary-50"]
    ways = {f"care {name}": (lambda count, name=name: ours.search(name, count)) for name in names}
    for name, peer in peers.items():
        before, start = resident(), time.perf_counter()
        search = peer["build"](vectors)
        print(json.dumps({"built": name, "s": time.perf_counter() - start, "resident_mb": resident() - before}), flush=True)
        for label, options in peer["ways"].items():
            ways[f"{name} {label}".strip()] = lambda count, search=search, options=options: timed(search, queries[:count], options)
    truth = ours.search("flat", len(queries))[1]
    seconds, recalls = {}, {}
    for _ in range(arguments.rounds):
        for count in (1, len(queries)):
            for name, way in ways.items():
                s, rows = way(count)
                seconds[name, count] = min(s, seconds.get((name, count), s))
                if count > 1:
                    recalls[name] = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(rows.tolist(), truth.tolist())]))
    for name in ways:
        one, all_ = seconds[name, 1], seconds[name, len(queries)]
        print(json.dumps({"search": name, "one_s": round(one, 5), "hundred_s": round(all_, 4), "recall@10": round(recalls[name], 4)}))
    ours.process.stdin.close()


def timed(search, queries, options):
    start = time.perf_counter()
    rows = search(queries, **options)
    return time.perf_counter() - start, rows


if __name__ == "__main__":
    main()
