#!/usr/bin/env python3
"""Arranges the Toyhom data for `care train` and `care eval`; needs only Python.

    prepare.py DATA OUT

DATA holds corpus.jsonl, queries.jsonl, qrels.tsv, queries.dev.jsonl, qrels.dev.tsv, train.jsonl,
align-queries.jsonl and align-documents.jsonl. OUT receives

    test/   the 500 test questions against the whole corpus
    dev/    the 200 development questions against their answers and 500 other documents,
            since a dev set is encoded many times
    train/  the rows of stage 2
    align/  the texts of stage 1
"""
import json
import os
import shutil
import sys

OTHERS = 500


def rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path, items):
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def main(data, out):
    source = lambda name: os.path.join(data, name)
    for folder in ("test/qrels", "dev/qrels", "train", "align"):
        os.makedirs(os.path.join(out, folder), exist_ok=True)
    shutil.copy(source("corpus.jsonl"), f"{out}/test/corpus.jsonl")
    shutil.copy(source("queries.jsonl"), f"{out}/test/queries.jsonl")
    shutil.copy(source("qrels.tsv"), f"{out}/test/qrels/test.tsv")
    shutil.copy(source("queries.dev.jsonl"), f"{out}/dev/queries.jsonl")
    shutil.copy(source("qrels.dev.tsv"), f"{out}/dev/qrels/dev.tsv")
    for name in ("align-queries.jsonl", "align-documents.jsonl"):
        shutil.copy(source(name), f"{out}/align/{name}")
    shutil.copy(source("train.jsonl"), f"{out}/train/train.jsonl")

    with open(source("qrels.dev.tsv"), encoding="utf-8") as lines:
        judged = {line.split("\t")[1] for line in list(lines)[1:]}
    corpus = rows(source("corpus.jsonl"))
    others = [row for row in corpus if row["_id"] not in judged]
    kept = {row["_id"] for row in others[:: max(1, len(others) // OTHERS)][:OTHERS]} | judged
    write(f"{out}/dev/corpus.jsonl", [row for row in corpus if row["_id"] in kept])
    print(f"{len(kept)} of {len(corpus)} documents in the dev set")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
