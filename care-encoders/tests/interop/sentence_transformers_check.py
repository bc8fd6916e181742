#!/usr/bin/env python3
"""Checks that sentence-transformers loads pairs saved by `care`, and `care` models saved by sentence-transformers.

    cargo build --release -p care-cli
    pip install torch transformers 'sentence-transformers>=6,<7' numpy
    CARE=target/release/care python3 care-encoders/tests/interop/sentence_transformers_check.py

Prints a table of the largest differences, and fails if one exceeds its bound.
"""
import json
import os
import shutil
import tempfile

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Router, Transformer

from common import DATA, TEXTS, care, compare, embed, finish, header


def tiny(name):
    return os.path.join(DATA, name)


def both(name, folder, model, loaded, bound=1e-5):
    # Python divides by the lengths when it compares by cosine, `care` when it makes the vectors.
    unit = {"normalize_embeddings": loaded.similarity_fn_name == "cosine"}
    compare(f"{name}, queries", embed(folder, model, "query"), loaded.encode_query(TEXTS, **unit), bound)
    compare(f"{name}, documents", embed(folder, model, "document"), loaded.encode_document(TEXTS, **unit), bound)


def saved_by_us(folder):
    pairs = {
        "bert + qwen3": ("bert", "qwen3", []),
        "bert + qwen3, prompts, 24 of 64 dimensions": (
            "bert", "qwen3", ["--query-instruction", "问：", "--document-instruction", "答：", "--dim", 24]),
        "gte (authors' form) + qwen2": ("gte_new", "qwen2", []),
        "gte without token types + qwen3 with head": ("gte_new_plain", "qwen3_causal_lm", []),
        "bert + qwen3, not normalised": ("bert", "qwen3", ["--no-normalize"]),
        "distilbert + mpnet": ("distilbert", "mpnet", []),
        "modernbert + distilbert": ("modernbert", "distilbert", []),
    }
    for number, (name, (query, document, more)) in enumerate(pairs.items()):
        target = os.path.join(folder, f"pair{number}")
        care("convert", "--model", tiny(query), "--document-model", tiny(document), "--max-length", 48,
             "--output", target, *more)
        both(name, folder, target, SentenceTransformer(target))
    # As in published Qwen3 models, the network's settings name no padding token.
    unpadded = os.path.join(folder, "unpadded")
    shutil.copytree(tiny("qwen3"), unpadded)
    os.remove(os.path.join(unpadded, "tokenizer_config.json"))
    with open(os.path.join(unpadded, "config.json")) as file:
        config = json.load(file)
    config["pad_token_id"] = None
    with open(os.path.join(unpadded, "config.json"), "w") as file:
        json.dump(config, file)
    target = os.path.join(folder, "pair_unpadded")
    care("convert", "--model", unpadded, "--max-length", 48, "--output", target)
    both("qwen3 without a padding token", folder, target, SentenceTransformer(target))
    published = os.path.join(folder, "published")
    os.makedirs(published)
    os.symlink(os.path.abspath(tiny("gte_hf")), os.path.join(published, "query_encoder"))
    os.symlink(os.path.abspath(tiny("qwen3")), os.path.join(published, "doc_encoder"))
    target = os.path.join(folder, "from_published")
    care("convert", "--model", published, "--dim", 32, "--max-length", 48, "--output", target)
    both("published CARE layout, normalised then cut to 32", folder, target, SentenceTransformer(target))


def saved_by_them(folder):
    def bert():
        return Transformer(tiny("bert"), max_seq_length=40)

    def qwen():
        return Transformer(tiny("qwen3"), max_seq_length=48)

    torch.manual_seed(1)
    prompts = {"query": "问：", "document": "答："}
    models = {
        "plain, mean": SentenceTransformer(modules=[bert(), Pooling(64, "mean")]),
        "mean, dot product": SentenceTransformer(modules=[bert(), Pooling(64, "mean")], similarity_fn_name="dot"),
        "max and weighted mean, concatenated": SentenceTransformer(
            modules=[bert(), Pooling(64, ["weightedmean", "max"])]),
        "8 tokens for queries, lower case": SentenceTransformer(modules=[
            Transformer(tiny("bert"), max_seq_length=40, query_length=8, do_lower_case=True), Pooling(64, "mean")]),
        "Dense with Tanh and Normalize, prompts": SentenceTransformer(
            modules=[bert(), Pooling(64, "cls"), Dense(64, 24), Normalize()], prompts=prompts),
        "Dense without bias and activation": SentenceTransformer(
            modules=[qwen(), Pooling(64, "lasttoken"), Dense(64, 24, bias=False, activation_function=torch.nn.Identity())]),
        "truncate_dim 16 after Normalize": SentenceTransformer(
            modules=[qwen(), Pooling(64, "lasttoken"), Normalize()], truncate_dim=16),
        "Router": SentenceTransformer(
            modules=[Router.for_query_document([bert(), Pooling(64, "mean"), Normalize()],
                                               [qwen(), Pooling(64, "lasttoken"), Normalize()])], prompts=prompts),
        "Router with Dense, Normalize after it": SentenceTransformer(
            modules=[Router.for_query_document([bert(), Pooling(64, "cls"), Dense(64, 24)],
                                               [qwen(), Pooling(64, "lasttoken"), Dense(64, 24)]), Normalize()]),
    }
    for number, (name, model) in enumerate(models.items()):
        target = os.path.join(folder, f"theirs{number}")
        model.save_pretrained(target)
        both(name, folder, target, SentenceTransformer(target))
    # A plain folder of Hugging Face, from which Python makes a model.
    for name in ("bert", "qwen3", "qwen3_causal_lm"):
        plain = os.path.join(folder, f"plain_{name}")
        shutil.copytree(tiny(name), plain)
        both(f"{name} without modules.json", folder, plain, SentenceTransformer(plain))


if __name__ == "__main__":
    torch.set_num_threads(1)
    versions = f"sentence-transformers {sentence_transformers.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
    with tempfile.TemporaryDirectory() as folder:
        header(f"Saved by `care convert`, loaded by Python ({versions}):")
        saved_by_us(folder)
        print()
        header("Saved by Python, loaded by `care embed`:")
        saved_by_them(folder)
    finish()
