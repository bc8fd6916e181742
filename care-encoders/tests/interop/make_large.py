#!/usr/bin/env python3
"""Makes a random model with the shape of Qwen3-Embedding-0.6B, in bf16 and two shards.

    python3 make_large.py FOLDER TOKENIZER

Writes FOLDER/{config.json, model-0000N-of-00002.safetensors, model.safetensors.index.json} and copies the
tokenizer, whose ids must be below 151,669. Needs numpy.
"""
import json
import os
import shutil
import struct
import sys

import numpy as np

WIDTH, INNER, LAYERS, HEADS, KV, HEAD, VOCAB = 1024, 3072, 28, 16, 8, 128, 151669


def shapes():
    yield "embed_tokens.weight", (VOCAB, WIDTH)
    for n in range(LAYERS):
        yield f"layers.{n}.input_layernorm.weight", (WIDTH,)
        yield f"layers.{n}.post_attention_layernorm.weight", (WIDTH,)
        for name, shape in {
            "self_attn.q_proj": (HEADS * HEAD, WIDTH), "self_attn.k_proj": (KV * HEAD, WIDTH),
            "self_attn.v_proj": (KV * HEAD, WIDTH), "self_attn.o_proj": (WIDTH, HEADS * HEAD),
            "self_attn.q_norm": (HEAD,), "self_attn.k_norm": (HEAD,), "mlp.gate_proj": (INNER, WIDTH),
            "mlp.up_proj": (INNER, WIDTH), "mlp.down_proj": (WIDTH, INNER),
        }.items():
            yield f"layers.{n}.{name}.weight", shape
    yield "norm.weight", (WIDTH,)


def write(path, tensors, seed):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            values = rng.standard_normal(shape, dtype=np.float32) * 0.02
            if "norm" in name:
                values = np.ones(shape, dtype=np.float32)
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def main(folder, tokenizer):
    os.makedirs(folder, exist_ok=True)
    tensors = list(shapes())
    half = len(tensors) // 4
    weight_map = {}
    for number, part in enumerate((tensors[:half], tensors[half:]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        write(os.path.join(folder, file), part, number)
        weight_map.update({name: file for name, _ in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": weight_map}, file)
    config = dict(
        model_type="qwen3", architectures=["Qwen3Model"], hidden_size=WIDTH, intermediate_size=INNER,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV, head_dim=HEAD, vocab_size=VOCAB,
        max_position_embeddings=32768, rms_norm_eps=1e-6, rope_theta=1e6, rope_scaling=None, torch_dtype="bfloat16",
        pad_token_id=317,
    )
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    shutil.copy(tokenizer, os.path.join(folder, "tokenizer.json"))


if __name__ == "__main__":
    main(*sys.argv[1:])
