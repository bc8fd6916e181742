#!/usr/bin/env python3
"""Compares `care embed` with transformers on published weights and 20 texts.

    cargo build --release -p care-cli
    pip install torch transformers numpy
    CARE=target/release/care python3 care-encoders/tests/interop/real_weights_check.py NAME=FOLDER:POOLING ..

For example `me5=models/multilingual-e5-small:mean smollm2=models/SmolLM2-135M:last-token`. In f32, without padding.
"""
import os
import sys
import tempfile

import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoModel

from common import TEXTS, compare, embed, finish, header


def reference(folder, pooling):
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.enable_truncation(128)
    tokenizer.no_padding()
    rows = []
    with torch.no_grad():
        for text in TEXTS:
            hidden = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
            pooled = {"mean": hidden.mean(0), "cls": hidden[0], "last-token": hidden[-1]}[pooling]
            rows.append(torch.nn.functional.normalize(pooled, dim=0))
    return torch.stack(rows).numpy()


if __name__ == "__main__":
    torch.set_num_threads(2)
    header(f"`care embed` and transformers {transformers.__version__}, torch {torch.__version__}:")
    with tempfile.TemporaryDirectory() as place:
        for argument in sys.argv[1:]:
            name, rest = argument.split("=", 1)
            folder, pooling = rest.rsplit(":", 1)
            ours = embed(place, folder, "document", "--pooling", pooling, "--max-length", 128, "--normalize")
            compare(f"{name}, {pooling}", ours, reference(folder, pooling), 2e-5)
    finish()
