#!/usr/bin/env python3
"""Vectors of sentence-transformers' `Pooling` module in all modes, of the tiny BERT and the tiny Qwen3 beside this script.

    pip install torch transformers 'sentence-transformers>=6,<7'
    python3 care-encoders/tests/data/make_poolings.py

Writes `poolings.json`: texts, and for each network the vectors by mode, not normalised. Modes joined by `+` are
concatenated in this order. Made with torch 2.15, transformers 5.24 and sentence-transformers 6.2.
"""
import json
import os

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["高血压患者能吃党参吗？", "38"]
MODES = ["max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken+max+cls"]


def vectors(name, mode):
    transformer = Transformer(os.path.join(HERE, name), max_seq_length=32)
    model = SentenceTransformer(modules=[transformer, Pooling(64, mode.split("+"))], device="cpu")
    encoded = model.encode(TEXTS, batch_size=1)
    return [[float(f"{value:.8g}") for value in row] for row in encoded.tolist()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    values = {name: {mode: vectors(name, mode) for mode in MODES} for name in ("bert", "qwen3")}
    with open(os.path.join(HERE, "poolings.json"), "w", encoding="utf-8") as file:
        json.dump({"texts": TEXTS, **values}, file, ensure_ascii=False)
        file.write("\n")
