#!/usr/bin/env bash
# sentence-transformers 6.2.0: `mine_hard_negatives(cache_folder=..)` mines with another checkpoint's vectors.
#
# Input: two checkpoints with different weights in two folders, as two rounds of training leave them; 20 questions, 200
# documents; each mines with the same cache folder, then each with an empty one of its own.
# Seen: the second checkpoint gets the first one's negatives and scores, to the last digit, without computing a vector and without
# a warning; with a cache of its own it gets others, for 19 of 20 questions. The names of the cached files are hashes of the base
# model's name, the prompts and the texts, and models in local folders, which the hub does not know, all have the same name: none.
# So training, mining again and training again, as ANCE does, mines with vectors from before the training.
# Harm: no hard negatives of the current model, and scores (for margins, or for distillation) that are another model's. Prompts
# were left out too until huggingface/sentence-transformers#3870; weights still are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sentence-transformers==6.2.0 torch==2.15.0 datasets==5.2.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PY'
import random
import sys
from importlib.metadata import version

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import mine_hard_negatives
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

assert version("sentence-transformers") == "6.2.0"
folder = sys.argv[1]
words = [f"w{number}" for number in range(100)]


def checkpoint(seed):
    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    torch.manual_seed(seed)
    path = f"{folder}/round-{seed}"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu").save_pretrained(path)
    return SentenceTransformer(path, device="cpu")


draw = random.Random(1)
text = lambda: " ".join(draw.choices(words, k=8))
pairs = Dataset.from_dict({"question": [text() for _ in range(20)], "answer": [text() for _ in range(20)]})
corpus = [text() for _ in range(200)]


def mine(model, cache):
    found = mine_hard_negatives(
        pairs, model, corpus=corpus, num_negatives=1, range_max=20, sampling_strategy="top", output_scores=True,
        output_format="triplet", cache_folder=f"{folder}/{cache}", verbose=False)
    return {row["question"]: (row["negative"], tuple(row["scores"])) for row in found}


first, second = checkpoint(1), checkpoint(2)
assert not torch.equal(first[0].embedding.weight, second[0].embedding.weight)
shared = [mine(first, "shared"), mine(second, "shared")]
own = [mine(first, "one"), mine(second, "two")]
differ = lambda a, b: sum(a[question][0] != b[question][0] for question in a.keys() & b.keys())
print(f"own caches: {differ(*own)} of {len(pairs)} questions have another negative; shared: {differ(*shared)}")
if shared[0] != shared[1] or own[0] != shared[0] or own[0] == own[1]:
    sys.exit("the behaviour has changed")
PY
