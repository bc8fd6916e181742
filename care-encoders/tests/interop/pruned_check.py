#!/usr/bin/env python3
"""Compares a pair whose vocabulary `care prune-vocab` has cut with the model that it was cut from.

    pip install torch transformers sentence-transformers
    python3 care-encoders/tests/interop/pruned_check.py MODEL PRUNED TEXTS

MODEL is a Hugging Face folder with mean pooling, PRUNED what `prune-vocab --output` wrote, TEXTS a JSON Lines file with `text`.
Tokenizes the texts, their clauses and random pieces of them with Python's tokenizers, and compares vectors of 300 covered
texts: MODEL's by transformers with PRUNED's by sentence-transformers.
"""
import json
import os
import random
import re
import sys

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

CLAUSE_ENDS = re.compile("[，。？！、；,;?!\n]")
VECTORS, BATCH = 300, 20


def tokenizer(path):
    read = Tokenizer.from_file(path)
    read.no_truncation()
    read.no_padding()
    return read


def pieces(texts):
    """The texts, their clauses, and three random pieces of each, in random order."""
    draw, found = random.Random(0), set(texts)
    for text in filter(None, texts):
        found.update(clause for clause in CLAUSE_ENDS.split(text) if clause.strip())
        for start in (draw.randrange(len(text)) for _ in range(3)):
            found.add(text[start : start + draw.randrange(5, 80)])
    found = sorted(found)
    draw.shuffle(found)
    return found


def vectors(folder, texts):
    network, reader = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = []
    for start in range(0, len(texts), BATCH):
        batch = reader(texts[start : start + BATCH], padding=True, truncation=True, max_length=512, return_tensors="pt")
        with torch.inference_mode():
            hidden, mask = network(**batch).last_hidden_state, batch["attention_mask"][..., None].float()
        rows.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy())
    return np.concatenate(rows)


def main(model, pruned, path):
    full = tokenizer(os.path.join(model, "tokenizer.json"))
    cut = tokenizer(os.path.join(pruned, "query_0_Transformer", "tokenizer.json"))
    with open(path, encoding="utf-8") as lines:
        texts = pieces([json.loads(line)["text"] for line in lines])
    known, covered, unlike = set(cut.get_vocab()), [], 0
    for text, whole, small in zip(texts, full.encode_batch(texts), cut.encode_batch(texts)):
        if known.issuperset(whole.tokens):
            covered.append(text)
            unlike += whole.tokens != small.tokens
    print(f"{len(texts)} texts, {len(covered)} covered, {unlike} of them with other pieces")
    with open(os.path.join(pruned, "config_sentence_transformers.json"), encoding="utf-8") as file:
        prompt = json.load(file).get("prompts", {}).get("query", "")
    some = covered[:VECTORS]
    found = SentenceTransformer(pruned, device="cpu").encode_query(some)
    difference = float(np.abs(found - vectors(model, [prompt + text for text in some])).max())
    print(f"{len(some)} vectors: components differ by at most {difference:.1e}")
    sys.exit(unlike > 0 or not covered or difference > 1e-6)


if __name__ == "__main__":
    main(*sys.argv[1:])
