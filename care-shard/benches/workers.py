#!/usr/bin/env python3
"""Workers beside one process, and estimates beside whole runs.

    workers.py turns CARE MODEL CORPUS [--rounds 3] [--shard-rows 452] [-- OPTION ..]
    workers.py estimate CARE MODEL CORPUS COUNT .. [--seconds 30] [-- OPTION ..]

CARE is the program, MODEL what its `--model` takes, CORPUS a JSON Lines file with `_id` and `text`, OPTIONs are the
model's. `turns` lets one `care embed` with two threads and two workers of `care encode` with a thread each take turns;
vectors must be equal bit by bit. `estimate` predicts for the first COUNT documents, which come again and again if the
corpus has fewer, and then encodes them with one worker; loading the model is measured by itself and taken off. Prints a
JSON object per measurement. Needs numpy.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np


def run(command, threads):
    env = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(*processes):
    for process in processes:
        if process.wait() != 0:
            sys.exit(f"failed: {' '.join(process.args)}")


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def encode(args, what, job, *more):
    model = [] if what in ("merge", "verify") else ["--model", args.model, *args.options]
    return [args.care, "encode", what, *model, "--job", job, *more]


def turns(args, folder):
    rates = {"one process": [], "two workers": []}
    documents = sum(1 for _ in open(args.corpus, encoding="utf-8"))
    embedded = f"{folder}/embedded.npy"
    embed = [args.care, "embed", "--model", args.model, "--role", "document", "--input", args.corpus, "--output", embedded]
    for number in range(args.rounds):
        one = seconds(lambda: finish(run([*embed, *args.options], 2)))
        job = f"{folder}/job-{number}"
        plan = ["--input", args.corpus, "--dtype", "f32", "--shard-rows", str(args.shard_rows)]
        finish(run(encode(args, "plan", job, *plan), 2))
        two = seconds(lambda: finish(*[run(encode(args, "work", job), 1) for _ in range(2)]))
        merged = f"{folder}/merged-{number}.npy"
        finish(run(encode(args, "merge", job, "--output", merged), 2))
        assert (np.load(merged) == np.load(embedded)).all(), "the vectors differ"
        for name, took in (("one process", one), ("two workers", two)):
            rates[name].append(documents / took)
            print(json.dumps({"round": number, "what": name, "s": round(took, 2)}), flush=True)
    one, two = (statistics.median(rates[name]) for name in ("one process", "two workers"))
    print(json.dumps({"documents_per_s": round(one, 1), "two_workers": round(two, 1), "ratio": round(two / one, 3)}))


def write(corpus, count, path):
    lines = open(corpus, encoding="utf-8").read().splitlines()
    with open(path, "w", encoding="utf-8") as out:
        for number in range(count):
            row = {**json.loads(lines[number % len(lines)]), "_id": f"d{number}"}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def estimate(args, folder):
    write(args.corpus, 1, f"{folder}/one.jsonl")

    def encoded(name, path):
        finish(run(encode(args, "plan", f"{folder}/{name}", "--input", path), 2))
        return seconds(lambda: finish(run(encode(args, "work", f"{folder}/{name}"), 2)))

    load = statistics.median(encoded(f"load-{number}", f"{folder}/one.jsonl") for number in range(3))
    for count in args.counts:
        path = f"{folder}/{count}.jsonl"
        write(args.corpus, count, path)
        plan = [args.care, "encode", "plan", "--model", args.model, *args.options, "--input", path]
        asked = run([*plan, "--estimate", "--json", "--seconds", str(args.seconds)], 2)
        (answer, _) = asked.communicate()
        finish(asked)
        predicted = json.loads(answer)["estimate"]["seconds_per_document"] * count
        measured = encoded(str(count), path) - load
        line = {"documents": count, "predicted_s": round(predicted, 2), "measured_s": round(measured, 2)}
        print(json.dumps({**line, "ratio": round(predicted / measured, 3), "load_s": round(load, 2)}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["turns", "estimate"])
    parser.add_argument("care")
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("counts", nargs="*", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard-rows", type=int, default=452)
    parser.add_argument("--seconds", type=float, default=30)
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:at])
    arguments.options = sys.argv[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        {"turns": turns, "estimate": estimate}[arguments.what](arguments, folder)
