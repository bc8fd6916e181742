#!/usr/bin/env python3
"""Makes files of torch.save with the weights of a minute BERT, and the same weights as safetensors.

    pip install torch transformers safetensors          (made with torch 2.15, transformers 5.24)
    python3 make_torch.py

Writes torch/: config.json, model.safetensors and the .bin files, shards included, and dense.bin with the weights of a
Dense module. Every weight is a multiple of 1/128 below 1/2, which f16 and bf16 represent exactly, so all files hold the
same numbers.
"""
import json
import os
import shutil

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch")


def main():
    torch.manual_seed(0)
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=10, type_vocab_size=2,
    )
    with open(os.path.join(HERE, "config.json"), "w") as file:
        file.write(config.to_json_string())
    model = BertModel(config, add_pooling_layer=False)
    weights = {name: torch.randint(-63, 64, weight.shape) / 128 for name, weight in model.state_dict().items()
               if weight.is_floating_point()}
    save_file(weights, os.path.join(HERE, "model.safetensors"), {"format": "pt"})

    def save(name, state, **options):
        torch.save(state, os.path.join(HERE, name), **options)

    # As BertModel and BertForMaskedLM save themselves: with a buffer of positions, and a head tied to the table.
    state = type(model.state_dict())((f"bert.{name}", weight) for name, weight in weights.items())
    state._metadata = {"": {"version": 1}}
    state["bert.embeddings.position_ids"] = torch.arange(10).unsqueeze(0)
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    old = dict(_use_new_zipfile_serialization=False)
    save("zip_f32.bin", state)
    save("old_f32.bin", state, **old)
    for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        narrow = {key: weight.to(dtype) if weight.is_floating_point() else weight for key, weight in state.items()}
        save(f"zip_{name}.bin", narrow)
        save(f"old_{name}.bin", narrow, **old)
    # Views: all vectors in one storage, matrices transposed or every other row of a larger one; and parameters.
    flat = torch.cat([weight.flatten() for weight in weights.values() if weight.dim() == 1])
    views, start = {}, 0
    for key, weight in weights.items():
        if weight.dim() == 1:
            views[key] = torch.nn.Parameter(flat[start:start + len(weight)])
            start += len(weight)
        elif "query" in key or "intermediate" in key:
            views[key] = weight.t().contiguous().t()
        else:
            views[key] = torch.stack([weight, torch.full_like(weight, float("nan"))], 1).flatten(0, 1)[::2]
    save("zip_views.bin", views)
    save("old_views.bin", views, **old)
    save("zip_protocol4.bin", dict(weights), pickle_protocol=4)
    # Shards.
    names = sorted(weights)
    shards = [names[::2], names[1::2]]
    files = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    for file, part in zip(files, shards):
        save(file, {name: weights[name] for name in part})
    with open(os.path.join(HERE, "pytorch_model.bin.index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": {name: f for f, part in zip(files, shards) for name in part}}, file)
    # What is not a state dict.
    save("checkpoint.bin", {"epoch": 3, "state_dict": {"embeddings.LayerNorm.bias": torch.zeros(8)}})
    # The weights of a Dense module on 64 dimensions.
    save("dense.bin", {"linear.weight": torch.randint(-63, 64, (3, 64)) / 128, "linear.bias": torch.tensor([0.25, -0.5, 0.125])})


if __name__ == "__main__":
    main()
