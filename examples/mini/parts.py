#!/usr/bin/env python3
"""Writes the sentences of the answers and the clauses of the questions of the training data as rows of stage 1.

    parts.py DATA OUT

DATA is the folder that ../toyhom/prepare.py writes. Parts of 6 to 60 characters, each once, without those that are a
question of their own: short texts, as people type them into a search box. Neither the test questions nor the test
documents are read.
"""
import json
import re
import sys

LEAST, MOST = 6, 60


def texts(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line)["query"].strip() for line in lines]


def main(data, out):
    questions, answers = texts(f"{data}/align/align-queries.jsonl"), texts(f"{data}/align/align-documents.jsonl")
    pieces = [piece for answer in answers for piece in re.split(r"(?<=[。；？！;?!\n])", answer)]
    pieces += [piece for question in questions for piece in re.split(r"[。，；？！,;?!\s]", question)]
    whole = set(questions)
    parts = dict.fromkeys(piece for piece in map(str.strip, pieces) if LEAST <= len(piece) <= MOST and piece not in whole)
    with open(out, "w", encoding="utf-8") as file:
        for part in parts:
            file.write(json.dumps({"query": part, "pos": [part], "neg": []}, ensure_ascii=False) + "\n")
    print(f"{len(parts)} parts")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
