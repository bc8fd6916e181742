#!/usr/bin/env python3
"""Documents through a decoder with weights of each form, in turns with PyTorch in f32 and bf16, and with llama.cpp.

    pip install torch transformers
    npm install --ignore-scripts node-llama-cpp
    weights_peer.py MODEL [--rows 48] [--tokens 200] [--rounds 3] [--llama FOLDER F32.gguf Q8_0.gguf ..]

MODEL is a Hugging Face folder. Prints one JSON object: the median seconds of each, and its ratio to this crate's f32.
Both sides read the same weights and use --threads threads; PyTorch runs batches of 8 documents, llama.cpp one after the other.
FOLDER is where npm installed; weights_gguf.py makes the files that it reads.
"""
import argparse
import json
import os
import statistics
import subprocess

from inference_peer import Care, timed

PRECISIONS = ("f32", "bf16", "f16", "int8", "int4")


class Llama:
    """llama.cpp with one file, in a process of its own."""

    def __init__(self, folder, file, rows, tokens, threads):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights_llama.mjs")
        command = ["node", script, folder, file, *map(str, (rows, tokens, threads))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def milliseconds(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main(model, rows, tokens, rounds, threads, program, only_care, llama):
    times = {}
    peers = {}
    if not only_care:
        import torch
        from transformers import AutoModel

        torch.set_num_threads(threads)
        ids = torch.randint(5, 10_000, (rows, tokens))

        def by_torch(network):
            def run():
                with torch.inference_mode():
                    for first in range(0, rows, 8):
                        network(input_ids=ids[first:first + 8], use_cache=False)
            return run

        for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
            peers[f"torch-{name}"] = by_torch(AutoModel.from_pretrained(model, dtype=dtype).eval())
    care = Care(model, threads, program)
    folder, *files = llama or [None]
    others = {f"llama.cpp {os.path.basename(file)}": Llama(folder, file, rows, tokens, threads) for file in files}
    for number in range(rounds):
        for precision in PRECISIONS[:: 1 if number % 2 else -1]:
            if not number:
                care.forward(precision, 2, tokens, 1)
            times.setdefault(f"care-{precision}", []).extend(care.forward(precision, rows, tokens, 1))
        for name, run in peers.items():
            times.setdefault(name, []).append(timed(run))
        for name, other in others.items():
            times.setdefault(name, []).append(other.milliseconds())
    median = {name: statistics.median(values) / 1e3 for name, values in times.items()}
    ratio = {name: round(value / median["care-f32"], 3) for name, value in median.items()}
    print(json.dumps({"rows": rows, "tokens": tokens, "s": {n: round(v, 2) for n, v in median.items()}, "ratio": ratio}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--program", help="the benchmark, already built")
    parser.add_argument("--only-care", action="store_true")
    parser.add_argument("--llama", nargs="+", metavar=("FOLDER", "GGUF"), help="where npm installed, and files")
    arguments = parser.parse_args()
    main(**vars(arguments))
