#!/usr/bin/env python3
"""Makes tiny PEFT adapters for the checkpoints in this folder, and the vectors that peft computes with them.

    pip install torch transformers peft safetensors          (made with torch 2.15, transformers 5.24, peft 0.21)
    python3 make_adapters.py

Writes adapters/NAME/ and adapters.json: {name: {base, ids, mean}}, where `mean` is the L2-normalised mean over
the tokens of each text, f32, without padding. Both matrices of every adapter are random, so that each has an
effect; so are the weights that an adapter replaces.
"""
import json
import os
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
DECODER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    # name: base, class, settings
    "qwen3": ("qwen3", AutoModel, dict(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=DECODER)),
    "qwen3_causal_lm": ("qwen3_causal_lm", AutoModelForCausalLM, dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"])),
    "bert_rs": ("bert", AutoModel, dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["query", "value", "dense"])),
    "gte_all": ("gte_hf", AutoModel, dict(r=2, lora_alpha=4, target_modules="all-linear")),
    # Every way to name targets. PEFT writes "all-linear" as the full names of the modules.
    "names_causal_lm": ("qwen3_causal_lm", AutoModelForCausalLM, dict(r=1, target_modules="all-linear")),
    "names_bert": ("bert", AutoModel, dict(r=1, target_modules=["encoder.layer.0.attention.self.query", "output.dense"])),
    "regex_qwen3": ("qwen3", AutoModel, dict(r=1, target_modules=r"layers\.\d+\.(self_attn\.[qv]_proj|mlp\.(?!up)\w+_proj)")),
    "regex_bert": ("bert", AutoModel, dict(
        r=1, target_modules=r".*\.layer\.\d+\..*(query|value)", exclude_modules=r".*\.0\..*\.value")),
    "layers_causal_lm": ("qwen3_causal_lm", AutoModelForCausalLM, dict(
        r=1, target_modules=["q_proj", "up_proj"], layers_to_transform=1)),
    "layers_bert": ("bert", AutoModel, dict(
        r=1, target_modules=["query", "dense"], layers_to_transform=[0], layers_pattern="layer",
        exclude_modules=["intermediate.dense"])),
    # The first pattern that matches counts.
    "patterns_qwen3": ("qwen3", AutoModel, dict(
        r=2, lora_alpha=3, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"layers.0.self_attn.q_proj": 3, "q_proj": 1}, alpha_pattern={"v_proj": 1, "layers.*": 2})),
    "patterns_bert": ("bert", AutoModel, dict(
        r=1, lora_alpha=1, target_modules=["query", "value"], rank_pattern={".*0.*query": 2, "query": 3},
        alpha_pattern={"value": 5, ".*self.*": 2})),
    # What is more than LoRA.
    "dora_qwen3": ("qwen3", AutoModel, dict(r=1, use_dora=True, target_modules=["q_proj", "o_proj", "up_proj"])),
    "dora_bert": ("bert", AutoModel, dict(r=1, use_dora=True, bias="all", target_modules=["key", "output.dense"])),
    "bias_bert": ("bert", AutoModel, dict(
        r=1, bias="lora_only", lora_bias=True, fan_in_fan_out=True, target_modules=["query", "dense"])),
    "whole_qwen3": ("qwen3", AutoModel, dict(
        r=1, target_modules=["q_proj", "k_proj"], modules_to_save=["norm", "layers.0.self_attn.k_proj"])),
    "whole_bert": ("bert", AutoModel, dict(
        r=1, bias="lora_only", target_modules=["value"], modules_to_save=["token_type_embeddings", "1.output.LayerNorm"])),
    "distilbert": ("distilbert", AutoModel, dict(r=2, lora_alpha=4, target_modules=["q_lin", "lin1"])),
    "mpnet": ("mpnet", AutoModel, dict(r=2, lora_alpha=4, target_modules=["q", "o", "dense"])),
    "modernbert": ("modernbert", AutoModel, dict(r=2, lora_alpha=4, target_modules=["Wqkv", "Wi", "Wo"])),
}
POOLERS = ("bert", "gte_hf", "mpnet")  # bases with a pooler, which is left out


def main():
    torch.set_num_threads(1)
    values = {}
    for seed, (name, (base, model_class, settings)) in enumerate(ADAPTERS.items()):
        torch.manual_seed(seed)
        kwargs = {"add_pooling_layer": False} if base in POOLERS else {}
        model = model_class.from_pretrained(os.path.join(HERE, base), dtype=torch.float32, attn_implementation="eager", **kwargs)
        model = get_peft_model(model, LoraConfig(task_type="FEATURE_EXTRACTION", **settings)).eval()
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if "magnitude" in key or "modules_to_save" in key or key.endswith("bias") and weight.requires_grad:
                    weight.mul_(1 + 0.2 * torch.randn(weight.shape)).add_(0.1 * torch.randn(weight.shape))
                elif "lora_" in key:
                    weight.copy_(0.2 * torch.randn(weight.shape))
        folder = os.path.join(HERE, "adapters", name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        # As PEFT reads it: of several patterns that match, the first in the file counts, where they are sorted.
        base_model = model_class.from_pretrained(os.path.join(HERE, base), dtype=torch.float32, attn_implementation="eager", **kwargs)
        model = PeftModel.from_pretrained(base_model, folder).eval()
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
