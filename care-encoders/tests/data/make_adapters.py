#!/usr/bin/env python3
"""Makes tiny PEFT adapters for the checkpoints in this folder, and the vectors that peft computes with them.

    pip install torch transformers peft safetensors          (made with torch 2.15, transformers 5.24, peft 0.21)
    python3 make_adapters.py

Writes adapters/NAME/ and adapters.json: {name: {base, ids, mean}}, where `mean` is the L2-normalised mean over
the tokens of each text, f32, without padding. Both matrices of every adapter are random, so that each has an
effect.
"""
import json
import os
import shutil

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
DECODER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    # name: base, class, settings
    "qwen3": ("qwen3", AutoModel, dict(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=DECODER)),
    "qwen3_causal_lm": ("qwen3_causal_lm", AutoModelForCausalLM, dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"])),
    "bert_rs": ("bert", AutoModel, dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["query", "value", "dense"])),
    "gte_all": ("gte_hf", AutoModel, dict(r=2, lora_alpha=4, target_modules="all-linear")),
}


def main():
    torch.set_num_threads(1)
    values = {}
    for seed, (name, (base, model_class, settings)) in enumerate(ADAPTERS.items()):
        torch.manual_seed(seed)
        kwargs = {} if model_class is AutoModelForCausalLM or base.startswith("qwen") else {"add_pooling_layer": False}
        model = model_class.from_pretrained(os.path.join(HERE, base), dtype=torch.float32, attn_implementation="eager", **kwargs)
        model = get_peft_model(model, LoraConfig(task_type="FEATURE_EXTRACTION", bias="none", **settings)).eval()
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if "lora_" in key:
                    weight.copy_(0.2 * torch.randn(weight.shape))
        folder = os.path.join(HERE, "adapters", name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        os.remove(os.path.join(folder, "README.md"))
        path = os.path.join(folder, "adapter_config.json")
        with open(path) as file:
            config = json.load(file)
        config["base_model_name_or_path"] = f"../../{base}"
        with open(path, "w") as file:
            json.dump(config, file, indent=1)
        ids = [[(7 * i * i + 11 * i + 13 * row) % 100 + 20 for i in range(length)] for row, length in enumerate((5, 1, 17))]
        inner = model.base_model.model
        inner = inner.model if model_class is AutoModelForCausalLM else inner
        with torch.no_grad():
            means = [inner(input_ids=torch.tensor([text])).last_hidden_state[0].mean(0) for text in ids]
            unit = [torch.nn.functional.normalize(mean, dim=0).tolist() for mean in means]
        values[name] = {"base": base, "ids": ids, "mean": [[float(f"{x:.9g}") for x in row] for row in unit]}
    with open(os.path.join(HERE, "adapters.json"), "w") as file:
        json.dump(values, file)


if __name__ == "__main__":
    main()
