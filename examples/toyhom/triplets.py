#!/usr/bin/env python3
"""The table of triplets.sh; needs only Python.

    triplets.py RESULTS SEED ..

nDCG@10 of each kind of negatives: the mean over the seeds of each question, then over the questions, with a 95 % interval from
10,000 bootstrap samples of the questions; the range over the seeds; and the difference from random negatives, paired.
"""
import json
import random
import sys

KINDS = ["random", "bm25", "mined", "cleaned"]


def scores(folder, name):
    with open(f"{folder}/{name}/test.json", encoding="utf-8") as file:
        return json.load(file)["care"]["evidence"]["queries"]


def interval(values, samples=10_000):
    draw = random.Random(0)
    means = sorted(sum(draw.choices(values, k=len(values))) / len(values) for _ in range(samples))
    return f"[{means[int(0.025 * samples)]:.4f}, {means[int(0.975 * samples) - 1]:.4f}]"


def main(folder, seeds):
    mean = lambda values: sum(values) / len(values)
    print("| negatives | nDCG@10 | 95 % interval | seeds | against random |\n|---|---|---|---|---|")
    for name in ["bm25-alone", "start"]:
        values = list(scores(folder, name).values())
        print(f"| {name} | {mean(values):.4f} | {interval(values)} | | |")
    base = None
    for kind in KINDS:
        runs = [scores(folder, f"{kind}-{seed}") for seed in seeds]
        queries = sorted(runs[0])
        values = [mean([run[query] for run in runs]) for query in queries]
        by_seed = [mean(list(run.values())) for run in runs]
        base = base or values
        differences = [value - other for value, other in zip(values, base)]
        against = "" if kind == "random" else f"{mean(differences):+.4f} {interval(differences)}"
        print(f"| {kind} | {mean(values):.4f} | {interval(values)} | {min(by_seed):.4f} to {max(by_seed):.4f} | {against} |")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
