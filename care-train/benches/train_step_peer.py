#!/usr/bin/env python3
"""The training steps of train_step.rs in PyTorch, with the same shapes.

    pip install torch transformers peft
    train_step_peer.py run [--threads 2] [--device cpu|cuda] [--bf16] [SHAPE..]      PyTorch alone
    train_step_peer.py turns [--threads 2] [--rounds 3] [--program PATH] [SHAPE..]   both in turns, and their ratios

Prints one JSON object per shape. `turns` runs each shape in processes of its own, so that their peak memory can be told
apart; PATH is the benchmark's executable, which is built if it is not given.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

STEPS, WARMUP, VOCABULARY = 7, 2, 3000
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
# Hidden size, layers of the query and of the document tower, (queries, tokens), (documents per query, tokens), and what else.
SHAPES = {
    "small-4-12": (384, 4, 12, (16, 32), (2, 128), {}),
    "base-12-12": (768, 12, 12, (4, 32), (2, 128), {}),
    "small-2-2": (384, 2, 2, (32, 16), (1, 64), {}),
    "lora-135m": (384, 2, None, (4, 32), (2, 128), {}),
    "long-4-12": (384, 4, 12, (16, 32), (2, 512), {}),
    "long-4-12-checkpointed": (384, 4, 12, (16, 32), (2, 512), {"checkpointed": True}),
    "table-2-2": (384, 2, 2, (32, 16), (1, 64), {"table": 250002}),
}


def bert(width, layers, vocabulary=None, checkpointed=False):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocabulary or VOCABULARY, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=width // 64, intermediate_size=4 * width, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertModel(config, add_pooling_layer=False)
    if vocabulary is None:
        model.embeddings.word_embeddings.weight.requires_grad_(False)
    if checkpointed:
        model.gradient_checkpointing_enable()
    return model


def smollm2():
    import peft
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=1536, use_cache=False,
    )
    lora = peft.LoraConfig(r=32, lora_alpha=64, lora_dropout=0.0, target_modules="all-linear")
    return peft.get_peft_model(LlamaModel(config), lora)


def run(options):
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = options.device

    def encode(model, ids, pooling, dim):
        hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.float()
        pooled = hidden[:, -1] if pooling == "last" else hidden.mean(1)
        return torch.nn.functional.normalize(pooled[:, :dim], dim=-1)

    for name in options.shapes or SHAPES:
        width, query_layers, document_layers, (queries, query_tokens), (group, document_tokens), more = SHAPES[name]
        checkpointed = more.get("checkpointed", False)
        query = bert(width, query_layers, more.get("table"), checkpointed).to(device).train()
        document = bert(width, document_layers, None, checkpointed) if document_layers else smollm2()
        document = document.to(device).train()
        weights = [p for m in (query, document) for p in m.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.05)
        query_ids = torch.randint(5, VOCABULARY, (queries, query_tokens), device=device)
        document_ids = torch.randint(5, VOCABULARY, (queries * group, document_tokens), device=device)
        target = torch.arange(queries, device=device) * group
        pooling = "mean" if document_layers else "last"

        def step():
            with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=options.bf16):
                q, d = encode(query, query_ids, "mean", width), encode(document, document_ids, pooling, width)
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
        median = statistics.median(times[WARMUP:])
        tokens = queries * query_tokens + queries * group * document_tokens
        print(json.dumps({
            "engine": f"torch-{torch.__version__}", "shape": name, "tokens": tokens,
            "median_ms": round(1e3 * median, 1), "tokens_per_s": round(tokens / median),
        }), flush=True)


def measured(command, threads):
    """The JSON object that a command prints, and the peak of its memory in MB."""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    line = child.stdout.read().strip().splitlines()[-1]
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return json.loads(line)["median_ms"], usage.ru_maxrss / 1024


def turns(options):
    program = options.program
    if program is None:
        build = ["cargo", "build", "--release", "--workspace", "--bench", "train_step", "--message-format", "json"]
        found = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        artifacts = [json.loads(line) for line in found.splitlines() if '"train_step"' in line]
        program = next(artifact["executable"] for artifact in artifacts if artifact.get("executable"))
    for name in options.shapes or SHAPES:
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(measured([program, name], options.threads))
            peer = [sys.executable, os.path.abspath(__file__), "run", "--threads", str(options.threads), name]
            theirs.append(measured(peer, options.threads))
        (care_ms, care_mb), (torch_ms, torch_mb) = ([statistics.median(x) for x in zip(*runs)] for runs in (ours, theirs))
        print(json.dumps({
            "shape": name, "care_ms": round(care_ms, 1), "torch_ms": round(torch_ms, 1),
            "time_ratio": round(care_ms / torch_ms, 3), "each": [round(a[0] / b[0], 3) for a, b in zip(ours, theirs)],
            "care_mb": round(care_mb), "torch_mb": round(torch_mb), "memory_ratio": round(care_mb / torch_mb, 3),
        }), flush=True)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "turns"):
        command = commands.add_parser(name)
        command.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(SHAPES))
        command.add_argument("--threads", type=int, default=2)
    commands.choices["run"].add_argument("--device", default="cpu")
    commands.choices["run"].add_argument("--bf16", action="store_true")
    commands.choices["turns"].add_argument("--rounds", type=int, default=3)
    commands.choices["turns"].add_argument("--program", help="the executable of the benchmark train_step")
    options = parser.parse_args()
    for name in options.shapes:
        if name not in SHAPES:
            parser.error(f"no shape {name!r}; there are {', '.join(SHAPES)}")
    (run if options.command == "run" else turns)(options)


if __name__ == "__main__":
    main()
