#!/usr/bin/env python3
"""Documents through a decoder with weights of each form, in turns with PyTorch in f32 and bf16.

    pip install torch transformers
    weights_peer.py MODEL [--rows 48] [--tokens 200] [--rounds 3]

MODEL is a Hugging Face folder. Prints one JSON object: the median seconds of each, and its ratio to this crate's f32.
Both sides read the same weights and use --threads threads; PyTorch runs batches of 8 documents.
"""
import argparse
import json
import statistics

from inference_peer import Care, timed

PRECISIONS = ("f32", "bf16", "f16", "int8", "int4")


def main(model, rows, tokens, rounds, threads, program, only_care):
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
    for number in range(rounds):
        for precision in PRECISIONS[:: 1 if number % 2 else -1]:
            if not number:
                care.forward(precision, 2, tokens, 1)
            times.setdefault(f"care-{precision}", []).extend(care.forward(precision, rows, tokens, 1))
        for name, run in peers.items():
            times.setdefault(name, []).append(timed(run))
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
    arguments = parser.parse_args()
    main(**vars(arguments))
