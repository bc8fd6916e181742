#!/usr/bin/env python3
"""One table for a device: is it right, and how fast is it beside PyTorch?

    pip install torch transformers peft
    benches/device.py cuda:0|wgpu|cpu MODEL [--skip parity,quickstart,encode,train]

Builds with the Cargo feature of the device and runs on it: the comparison of every network with transformers
(care-encoders/tests/golden.rs), the quickstart, forward passes of MODEL (a Hugging Face folder of the BERT family) in f32
and, on CUDA, in bf16, and training steps (care-train/benches/train_step.rs). PyTorch does the same on the same device; it
has no WGPU, so it runs on CUDA there if it can, else on the CPU, and the table says which.
"""
import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SHAPES = [(1, 16), (1, 128), (8, 128), (32, 128), (8, 512)]
STEPS = ["small-2-2", "small-4-12", "base-12-12"]


def cargo(*arguments):
    """The standard output of a Cargo command, which must succeed."""
    done = subprocess.run(["cargo", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"cargo {' '.join(arguments)} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def executable(feature, package, bench):
    flags = ["build", "--release", "-p", package, "--features", feature, "--bench", bench, "--message-format", "json"]
    rows = [json.loads(line) for line in cargo(*flags).splitlines() if line.startswith("{")]
    return next(row["executable"] for row in rows if row.get("executable") and row["target"]["name"] == bench)


def parity(feature):
    printed = cargo("test", "--release", "-p", "care-encoders", "--features", feature, "--test", "golden", "--",
                    "--nocapture", "--test-threads", "1")
    return re.search(r"test result: ok\. (\d+) passed", printed)[1] + " tests pass"


def quickstart(feature, device):
    build = ["--release", "--features", feature, "--example", "quickstart"]
    cargo("build", *build)
    start = time.perf_counter()
    cargo("run", *build, "--", "--device", device)
    return f"{time.perf_counter() - start:.0f} s"


def torch_forward(model, device, dtype):
    """Median milliseconds of a forward pass with mean pooling, as a function of rows and tokens."""
    import torch
    from transformers import AutoModel

    network = AutoModel.from_pretrained(model).to(device, getattr(torch, dtype)).eval()

    def median(rows, tokens):
        ids = torch.randint(5, 10_000, (rows, tokens), device=device)
        times = []
        for _ in range(12):
            start = time.perf_counter()
            with torch.inference_mode():
                network(input_ids=ids).last_hidden_state.float().mean(1).cpu()
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times[2:])

    return median


def encode(feature, device, peer, model):
    program = executable(feature, "care-encoders", "inference")
    care = subprocess.Popen([program, os.path.abspath(model), "serve", "--device", device], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
    precisions = {"f32": "float32"} | ({"bf16": "bfloat16"} if device.startswith("cuda") else {})
    for precision, dtype in precisions.items():
        theirs = torch_forward(model, peer, dtype)
        for rows, tokens in SHAPES:
            care.stdin.write(f"forward {precision} {rows} {tokens} 12\n")
            care.stdin.flush()
            ours = statistics.median(json.loads(care.stdout.readline())[2:])
            yield f"forward, {rows} x {tokens}, {precision}", ours, theirs(rows, tokens)
    care.stdin.close()
    care.wait()


def train(feature, device, peer):
    program = executable(feature, "care-train", "train_step")
    torch_steps = os.path.join(ROOT, "care-train", "benches", "train_step_peer.py")
    for name in STEPS:
        median = lambda command: json.loads(subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])["median_ms"]
        ours = median([program, f"device={device}", name])
        threads = str(os.cpu_count())
        yield f"training step, {name}, f32", ours, median(
            [sys.executable, torch_steps, "run", "--threads", threads, "--device", peer, name])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--skip", default="", help="parts to leave out, joined by commas")
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        parser.error("needs torch: pip install torch transformers peft")
    import torch

    device, feature = options.device, options.device.split(":")[0]
    cuda = torch.cuda.is_available()
    peer = {"cpu": "cpu", "wgpu": "cuda" if cuda else "cpu"}.get(feature, device)
    skip = options.skip.split(",")
    print(f"| {device} | CARE | PyTorch {torch.__version__} on {peer} | ratio |\n|---|---|---|---|", flush=True)
    if "parity" not in skip:
        print(f"| parity with transformers | {parity(feature)} | | |", flush=True)
    if "quickstart" not in skip:
        print(f"| quickstart | {quickstart(feature, device)} | | |", flush=True)
    timed = [] if "encode" in skip else [encode(feature, device, peer, options.model)]
    timed += [] if "train" in skip else [train(feature, device, peer)]
    for rows in timed:
        for what, ours, theirs in rows:
            print(f"| {what} | {ours:.1f} ms | {theirs:.1f} ms | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
