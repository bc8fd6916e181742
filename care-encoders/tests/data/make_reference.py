#!/usr/bin/env python3
"""Makes the tiny checkpoints of this folder and the vectors that transformers computes from them.

    pip install torch transformers tokenizers safetensors        (made with torch 2.15, transformers 5.23)
    python3 make_reference.py

Writes bert/ and qwen3/ (seeded random weights; norms and biases are random too, so that a missed one
shows) and golden.json. The tokenizers in those folders are inputs and stay as they are.

golden.json: {checkpoint: {"ids" | "text": {ids, texts?, unpadded, right, left?}}}; under each padding the
pooled vectors `cls`, `mean`, `last`, L2-normalised, and `<pooling>_raw` without normalisation. BERT has
absolute positions and is not run with left padding. On another CPU the last digits differ, by less than 1e-5.
"""
import json
import os

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, Qwen3Config, Qwen3Model

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = [
    "高血压患者能吃党参吗？",
    "你好",
    "头痛发烧三天，吃什么药好得快？体温38.5度。",
    "癫痫病人的饮食要注意哪些问题呢，平时应该怎么护理？能不能运动，会不会遗传给孩子，多久复查一次？",
]
END = 317  # <|endoftext|>: Qwen3's terminal token, and its padding token too


def fill(model, seed):
    """Random weights in the order of names."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                weight.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.1 * noise)
            elif "embed" in name:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(0.12 * noise)
    return model.eval()


def save(model, name, changes):
    folder = os.path.join(HERE, name)
    model.save_pretrained(folder)
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    # The keys that published checkpoints carry; transformers 5 writes rope_parameters and dtype.
    if "rope_parameters" in config:
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype", "float32")
    config.update(changes)
    with open(path, "w") as file:
        json.dump(config, file, indent=1)
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)


def bert():
    config = BertConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=64, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu", pad_token_id=0,
    )
    save(fill(BertModel(config), 1), "bert", {})


def qwen3():
    config = Qwen3Config(
        vocab_size=320, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, intermediate_size=128, max_position_embeddings=256, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=True, hidden_act="silu",
        attention_bias=False, use_sliding_window=False, bos_token_id=256, eos_token_id=256, pad_token_id=256,
    )
    save(fill(Qwen3Model(config), 2), "qwen3", {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END})


def padded(ids, side, pad):
    length = max(map(len, ids))
    tokens = torch.full((len(ids), length), pad)
    mask = torch.zeros(len(ids), length, dtype=torch.long)
    for row, text in enumerate(ids):
        place = slice(0, len(text)) if side == "right" else slice(length - len(text), length)
        tokens[row, place] = torch.tensor(text)
        mask[row, place] = 1
    return tokens, mask


def pooled(hidden, mask):
    count, first = mask.sum(1), mask.argmax(1)
    rows = torch.arange(len(hidden))
    weights = mask[..., None].float()
    raw = {
        "cls": hidden[rows, first],
        "mean": (hidden * weights).sum(1) / count[:, None].float(),
        "last": hidden[rows, first + count - 1],
    }
    unit = {name: torch.nn.functional.normalize(vector, dim=-1) for name, vector in raw.items()}
    return {**{f"{name}_raw": vector for name, vector in raw.items()}, **unit}


def golden(name, model_class, start, end, pad, sides, **kwargs):
    folder = os.path.join(HERE, name)
    model = model_class.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, **kwargs).eval()
    vocab, positions = model.config.vocab_size, model.config.max_position_embeddings
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.enable_truncation(min(48, positions))
    tokenizer.no_padding()
    made_up = [
        start + [(7 * i * i + 11 * i + 13 * row) % (vocab - 60) + 20 for i in range(length)] + end
        for row, length in enumerate((5, 1, 17, 30, 9))
    ]
    cases = {"ids": {"ids": made_up}, "text": {"ids": [tokenizer.encode(text).ids for text in TEXTS], "texts": TEXTS}}
    with torch.no_grad():
        for case in cases.values():
            run = lambda ids, side: (lambda tokens, mask: pooled(
                model(input_ids=tokens, attention_mask=mask).last_hidden_state, mask))(*padded(ids, side, pad))
            alone = [run([text], "right") for text in case["ids"]]
            case["unpadded"] = {key: [vectors[key][0].tolist() for vectors in alone] for key in alone[0]}
            for side in sides:
                vectors = run(case["ids"], side)
                case[side] = {key: vectors[key].tolist() for key in ("cls", "mean", "last")}
    return cases


if __name__ == "__main__":
    torch.set_num_threads(1)
    bert()
    qwen3()
    values = {
        "bert": golden("bert", BertModel, [2], [3], 0, ["right"], add_pooling_layer=False),
        "qwen3": golden("qwen3", Qwen3Model, [], [END], END, ["right", "left"]),
    }
    with open(os.path.join(HERE, "golden.json"), "w", encoding="utf-8") as file:
        json.dump(values, file, ensure_ascii=False)
