#!/usr/bin/env python3
"""The training steps of train_step.rs in PyTorch, with the same shapes.

    pip install torch transformers
    train_step_peer.py [--threads 2] [--device cpu|cuda] [--bf16]

Prints one JSON object per shape.
"""
import argparse
import json
import time

import torch
from transformers import BertConfig, BertModel

STEPS, WARMUP, VOCABULARY = 7, 2, 3000
# name, hidden size, layers of the query and of the document tower, (queries, tokens), (documents per query, tokens)
SHAPES = [
    ("small-4-12", 384, 4, 12, (16, 32), (2, 128)),
    ("base-12-12", 768, 12, 12, (4, 32), (2, 128)),
    ("small-2-2", 384, 2, 2, (32, 16), (1, 64)),
]


def tower(width, layers, device):
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
        intermediate_size=4 * width, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    model = BertModel(config, add_pooling_layer=False).to(device).train()
    model.embeddings.word_embeddings.weight.requires_grad_(False)
    return model


def encode(model, ids):
    hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return torch.nn.functional.normalize(hidden.float().mean(1), dim=-1)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--device", default="cpu")
    options.add_argument("--bf16", action="store_true")
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = options.device
    for name, width, query_layers, document_layers, (queries, query_tokens), (group, document_tokens) in SHAPES:
        query, document = tower(width, query_layers, device), tower(width, document_layers, device)
        weights = [p for m in (query, document) for p in m.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.05)
        query_ids = torch.randint(5, VOCABULARY, (queries, query_tokens), device=device)
        document_ids = torch.randint(5, VOCABULARY, (queries * group, document_tokens), device=device)
        target = torch.arange(queries, device=device) * group

        def step():
            with torch.autocast(device, dtype=torch.bfloat16, enabled=options.bf16):
                q, d = encode(query, query_ids), encode(document, document_ids)
            loss = torch.nn.functional.cross_entropy(q @ d.T / 0.02, target)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            return loss.item()

        times = []
        for _ in range(STEPS + WARMUP):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        median = sorted(times[WARMUP:])[STEPS // 2]
        tokens = queries * query_tokens + queries * group * document_tokens
        print(json.dumps({
            "engine": f"torch-{torch.__version__}", "shape": name, "tokens": tokens,
            "median_ms": round(1e3 * median, 1), "tokens_per_s": round(tokens / median),
        }), flush=True)


if __name__ == "__main__":
    main()
