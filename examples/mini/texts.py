#!/usr/bin/env python3
"""Writes the distinct texts of the training data, one JSON object with `text` a line.

    texts.py DATA OUT

DATA is the folder that ../toyhom/prepare.py writes. Neither the test questions nor the test documents are read.
"""
import json
import sys


def main(data, out):
    texts = {}
    for name in ("align/align-queries", "align/align-documents", "train/train"):
        with open(f"{data}/{name}.jsonl", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                of_row = [row["query"]] if name.startswith("align") else [row["query"], *row["pos"], *row["neg"]]
                texts.update((text.strip(), None) for text in of_row if text.strip())
    with open(out, "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    print(f"{len(texts)} texts")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
