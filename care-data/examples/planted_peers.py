"""datasketch and text-dedup on the texts of `planted.rs`, and the score of any list of kept rows.

    pip install datasketch text-dedup
    python3 planted_peers.py datasketch planted.jsonl kept.jsonl     # character trigrams, threshold 0.8, 128 permutations
    python3 planted_peers.py text-dedup planted.jsonl kept.jsonl     # its defaults
    python3 planted_peers.py score planted.jsonl kept.jsonl

What is asked for: of two texts whose character trigrams have a Jaccard similarity of 0.8 or more, one has to go. The truth is
exact: the similarity of each planted copy and its original, both without punctuation. `recall` is the share of these copies
that were dropped (or whose original was dropped for them), by the number of edits; `wrong` are dropped rows that are not
similar to any kept one.
"""

import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import defaultdict

THRESHOLD, NGRAM = 0.8, 3
# Dropped rows that are compared with all kept ones.
MOST = 20_000


def rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def form(text):
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum()) or text.strip()


def grams(text):
    return {text[i : i + NGRAM] for i in range(max(1, len(text) - NGRAM + 1))}


def write(path, kept):
    with open(path, "w", encoding="utf-8") as file:
        for row in kept:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def datasketch(texts):
    from datasketch import MinHash, MinHashLSH

    index, kept = MinHashLSH(threshold=THRESHOLD, num_perm=128), []
    for row in texts:
        sketch = MinHash(num_perm=128)
        sketch.update_batch([gram.encode() for gram in grams(form(row["text"]))])
        if not index.query(sketch):
            index.insert(row["id"], sketch, check_duplication=False)
            kept.append(row)
    return kept


def text_dedup(path):
    """`python -m text_dedup.minhash` with its defaults, which also reads and writes the data set."""
    from datasets import load_from_disk

    with tempfile.TemporaryDirectory() as folder:
        command = ["--path", "json", "--data_files", path, "--split", "train", "--column", "text", "--cache_dir",
                   f"{folder}/cache", "--output", f"{folder}/kept", "--num_proc", "2"]
        subprocess.run([sys.executable, "-m", "text_dedup.minhash", *command], check=True)
        return load_from_disk(f"{folder}/kept").to_list()


def score(texts, kept):
    by_id = {row["id"]: row for row in texts}
    left = {row["id"] for row in kept}
    similar, found, total = defaultdict(int), defaultdict(int), defaultdict(int)
    for row in texts:
        if "of" in row:
            own, other = grams(form(row["text"])), grams(form(by_id[row["of"]]["text"]))
            total[row["edits"]] += 1
            if len(own & other) >= THRESHOLD * len(own | other):
                similar[row["edits"]] += 1
                found[row["edits"]] += not (row["id"] in left and row["of"] in left)
    dropped = [row for row in texts if row["id"] not in left]
    wrong = count_wrong(dropped, by_id, left)
    print(f"{len(texts)} texts, {len(dropped)} dropped, {wrong} of them wrongly, "
          f"precision {1 - wrong / max(1, len(dropped)):.4f}")
    print("edits  copies  similar  found  recall")
    for edits in sorted(total):
        recall = found[edits] / max(1, similar[edits])
        print(f"{edits:5} {total[edits]:7} {similar[edits]:8} {found[edits]:6}  {recall:.5f}")
    print(f"  all {sum(total.values()):7} {sum(similar.values()):8} {sum(found.values()):6}  "
          f"{sum(found.values()) / sum(similar.values()):.5f}")


def count_wrong(dropped, by_id, left):
    """Dropped rows to which no kept one is similar: none of their family, nor any that shares one of as many trigrams as
    a similar text cannot lack. Of very many, a sample is looked at."""
    sets = {key: grams(form(row["text"])) for key, row in by_id.items()}
    family, holders = defaultdict(list), defaultdict(list)
    for key in left:
        family[by_id[key].get("of", key)].append(key)

    def near(one, other):
        return len(sets[one] & sets[other]) >= THRESHOLD * len(sets[one] | sets[other])

    alone = [row["id"] for row in dropped
             if not any(near(row["id"], other) for other in family[row.get("of", row["id"])])]
    share = min(1, MOST / max(1, len(alone)))
    alone = random.Random(1).sample(alone, round(share * len(alone)))
    for key in left if alone else []:
        for gram in sets[key]:
            holders[gram].append(key)

    def has_any(one):
        needed = len(sets[one]) - math.ceil(THRESHOLD * len(sets[one])) + 1
        rare = sorted(sets[one], key=lambda gram: len(holders[gram]))[:needed]
        return any(near(one, other) for gram in rare for other in holders[gram])

    return round(sum(not has_any(one) for one in alone) / share) if alone else 0


def main():
    how, path, kept = sys.argv[1:4]
    if how == "score":
        return score(rows(path), rows(kept))
    begin = time.time()
    result = text_dedup(path) if how == "text-dedup" else datasketch(rows(path))
    write(kept, result)
    seconds = time.time() - begin
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e6
    print(f"{how}: {len(result)} texts kept, {seconds:.1f} s, {memory:.2f} GB")


if __name__ == "__main__":
    main()
