#!/usr/bin/env python3
"""Makes a random model with the shape of a Qwen3 embedding model, in bf16 and shards.

    python3 make_large.py FOLDER TOKENIZER [0.6B|4B]

Writes FOLDER/{config.json, model-0000N-of-0000M.safetensors, model.safetensors.index.json} and copies the
tokenizer, whose ids must be below 151,665. Needs numpy, and 1.2 or 8.1 GB of disk.
"""
import json
import os
import shutil
import struct
import sys

import numpy as np

# Width, inner width, layers, heads, key and value heads, dimensions of a head, token ids, shards.
SIZES = {
    "0.6B": (1024, 3072, 28, 16, 8, 128, 151669, 2),
    "4B": (2560, 9728, 36, 32, 8, 128, 151665, 4),
}
BLOCK = 1 << 22


def shapes(size):
    width, inner, layers, heads, kv, head, vocab, _ = SIZES[size]
    yield "embed_tokens.weight", (vocab, width)
    for n in range(layers):
        yield f"layers.{n}.input_layernorm.weight", (width,)
        yield f"layers.{n}.post_attention_layernorm.weight", (width,)
        for name, shape in {
            "self_attn.q_proj": (heads * head, width), "self_attn.k_proj": (kv * head, width),
            "self_attn.v_proj": (kv * head, width), "self_attn.o_proj": (width, heads * head),
            "self_attn.q_norm": (head,), "self_attn.k_norm": (head,), "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner),
        }.items():
            yield f"layers.{n}.{name}.weight", shape
    yield "norm.weight", (width,)


def write(path, tensors, seed):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    # Tensors are made of one block from different places on: billions of random numbers would take minutes.
    block = rng.standard_normal(BLOCK, dtype=np.float32) * 0.02
    block = np.tile((block.view(np.uint32) >> 16).astype(np.uint16), 2)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            left = int(np.prod(shape))
            if "norm" in name:
                file.write(np.full(left, 0x3F80, dtype=np.uint16).tobytes())
                continue
            while left > 0:
                first = rng.integers(BLOCK)
                part = block[first:first + min(left, BLOCK)]
                file.write(part.tobytes())
                left -= len(part)


def main(folder, tokenizer, size="0.6B"):
    os.makedirs(folder, exist_ok=True)
    width, inner, layers, heads, kv, head, vocab, shards = SIZES[size]
    tensors = list(shapes(size))
    each = -(-len(tensors) // shards)
    weight_map = {}
    for number in range(shards):
        part = tensors[number * each:(number + 1) * each]
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        write(os.path.join(folder, file), part, number)
        weight_map.update({name: file for name, _ in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": weight_map}, file)
    config = dict(
        model_type="qwen3", architectures=["Qwen3Model"], hidden_size=width, intermediate_size=inner,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv, head_dim=head, vocab_size=vocab,
        max_position_embeddings=32768, rms_norm_eps=1e-6, rope_theta=1e6, rope_scaling=None, torch_dtype="bfloat16",
        pad_token_id=317,
    )
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    shutil.copy(tokenizer, os.path.join(folder, "tokenizer.json"))


if __name__ == "__main__":
    main(*sys.argv[1:])
