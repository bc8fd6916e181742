#!/usr/bin/env python3
"""Checks that peft loads adapters written by `care`.

    cargo build --release --example adapter
    pip install torch transformers peft numpy
    ADAPTER=target/release/examples/adapter python3 care-encoders/tests/interop/peft_check.py

The example loads and rewrites every adapter in tests/data/adapters, which peft made; peft loads the result, and its
vectors must equal those in tests/data/adapters.json.
"""
import json
import os
import subprocess
import tempfile

import peft
import torch
import transformers
from peft import PeftModel
from transformers import AutoModel

from common import DATA, compare, finish, header


def main():
    torch.set_num_threads(1)
    example = os.environ.get("ADAPTER", "target/release/examples/adapter")
    with open(os.path.join(DATA, "adapters.json")) as file:
        cases = json.load(file)
    header(f"Read and written by `care-encoders`, loaded by Python (peft {peft.__version__}, transformers {transformers.__version__}):")
    for name, case in cases.items():
        base = os.path.join(DATA, case["base"])
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "adapter")
            subprocess.run([example, base, os.path.join(DATA, "adapters", name), target], check=True, capture_output=True)
            kwargs = {} if case["base"].startswith("qwen") else {"add_pooling_layer": False}
            model = AutoModel.from_pretrained(base, dtype=torch.float32, attn_implementation="eager", **kwargs)
            model = PeftModel.from_pretrained(model, target).eval()
            with torch.no_grad():
                means = [model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in case["ids"]]
            theirs = torch.stack([torch.nn.functional.normalize(mean, dim=0) for mean in means])
            compare(f"{name} on {case['base']}", theirs.numpy(), case["mean"], 1e-5)
    finish()


if __name__ == "__main__":
    main()
