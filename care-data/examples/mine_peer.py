#!/usr/bin/env python3
"""Hard negatives with sentence-transformers, in turns with `mine_cached`, with the same cached vectors.

    python3 mine_peer.py prepare DATA FOLDER             DATA has corpus.jsonl and train.jsonl (query, pos)
    python3 mine_peer.py mine MODEL FOLDER               prints seconds and peak memory, as JSON
    python3 mine_peer.py turns MODEL FOLDER PROGRAM N    both in turns, N times

`prepare` makes vectors of 384 numbers from character bigrams (random signs, normalised): how long a search takes depends on
their number and size. MODEL is a sentence-transformers or Hugging Face folder with that many dimensions; since all vectors
are in the cache, it encodes nothing. Needs sentence-transformers and datasets.
"""
import hashlib
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

DIM = 384


def read(folder):
    corpus = [json.loads(line) for line in open(f"{folder}/corpus.jsonl")]
    corpus = [f"{row.get('title') or ''} {row['text']}".strip() for row in corpus]
    rows = [json.loads(line) for line in open(f"{folder}/train.jsonl")]
    pairs = [(row["query"], positive.strip()) for row in rows for positive in row["pos"]]
    return corpus, pairs


def prepare(data, folder):
    os.makedirs(folder, exist_ok=True)
    for name in ["corpus.jsonl", "train.jsonl"]:
        with open(f"{data}/{name}") as source, open(f"{folder}/{name}", "w") as out:
            out.write(source.read())
    corpus, pairs = read(folder)
    texts = list(dict.fromkeys(corpus + [text for pair in pairs for text in pair]))
    signs, vectors = {}, np.zeros((len(texts), DIM), dtype=np.float32)
    for row, text in enumerate(texts):
        for at in range(len(text) - 1):
            bigram = text[at:at + 2]
            if bigram not in signs:
                bits = np.frombuffer(hashlib.sha512(bigram.encode()).digest()[:DIM // 8], np.uint8)
                signs[bigram] = np.unpackbits(bits) * np.float32(2) - 1
            vectors[row] += signs[bigram]
        vectors[row] /= np.linalg.norm(vectors[row]) or 1
    vectors.tofile(f"{folder}/vectors.f32")
    with open(f"{folder}/texts.txt", "w") as out:
        out.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)


def mine(model, folder):
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    model = SentenceTransformer(model, device="cpu")
    corpus, pairs = read(folder)
    texts = [json.loads(line) for line in open(f"{folder}/texts.txt")]
    rows = {text: row for row, text in enumerate(texts)}
    vectors = np.fromfile(f"{folder}/vectors.f32", np.float32).reshape(-1, DIM)
    dataset = Dataset.from_dict({"anchor": [pair[0] for pair in pairs], "positive": [pair[1] for pair in pairs]})
    # The cache as the function itself would have written it.
    queries = list(dict.fromkeys(pair[0] for pair in pairs))
    documents = list(dict.fromkeys(corpus + [pair[1] for pair in pairs]))
    name = model.model_card_data.base_model or ""
    for kind, listed in [("query", queries), ("corpus", documents)]:
        digest = hashlib.sha256(repr((name, None, None, listed)).encode()).hexdigest()
        np.save(f"{folder}/{kind}_embeddings_{digest}.npy", vectors[[rows[text] for text in listed]])
    del vectors, rows, texts
    start = time.time()
    found = mine_hard_negatives(
        dataset, model, corpus=corpus, range_min=10, range_max=210, relative_margin=0.05, num_negatives=10,
        sampling_strategy="top", output_format="triplet", output_scores=True, cache_folder=folder, verbose=False)
    mined = time.time() - start
    found.to_json(f"{folder}/peer.jsonl", force_ascii=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    print(json.dumps(dict(mine_s=round(mined, 2), all_s=round(time.time() - start, 2), negatives=len(found), peak_mb=peak)))


def turns(model, folder, program, count):
    commands = [[sys.executable, __file__, "mine", model, folder], [program, folder, f"{folder}/care.jsonl"]]
    for _ in range(int(count)):
        for command in commands:
            print(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.strip(), os.getloadavg())


if __name__ == "__main__":
    dict(prepare=prepare, mine=mine, turns=turns)[sys.argv[1]](*sys.argv[2:])
