#!/usr/bin/env python3
"""Single queries from text to vector: this package, the program's own code, sentence-transformers, ONNX Runtime.

    pip install care-retrieval torch transformers sentence-transformers onnx onnxruntime
    latency.py MODEL QUERIES [--program PROGRAM] [--without-peers]

MODEL is a Hugging Face folder, QUERIES a JSON Lines file with `text`, PROGRAM the benchmark `inference` of care-encoders,
which is built if it is not given. All pool by the mean, read no prefix, use --threads threads and take turns, a few dozen
queries each, since the speed of a shared machine changes from minute to minute.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

SHARE = 25


def timed(call, text):
    start = time.perf_counter()
    call(text)
    return (time.perf_counter() - start) * 1e3


def package(model, precision):
    """This package."""
    from care_retrieval import Pair

    pair = Pair.open(model, precision=precision, pooling="mean")
    return lambda text: pair.embed_queries([text])


def sentence_transformers(model, threads):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    # A folder without modules gets mean pooling.
    network = SentenceTransformer(model, device="cpu")
    return lambda text: network.encode([text], normalize_embeddings=True)


def onnx_runtime(peer, model, folder, threads):
    """ONNX Runtime's sessions, each with tokenizer, pooling and normalisation around it."""
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))

    def embed(session):
        inputs = [(wanted.name, np.int32 if "int32" in wanted.type else np.int64) for wanted in session.get_inputs()]

        def call(text):
            ids = np.array([tokenizer.encode(text).ids])
            known = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            (states,) = session.run(None, {name: known[name].astype(kind) for name, kind in inputs})
            vectors = states.mean(axis=1)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        return call

    sessions = peer.onnx_sessions(peer.network(model), folder, threads)
    return {f"onnxruntime-{name}": embed(session) for name, session in sessions.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("queries")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--program", help="the benchmark `inference` of care-encoders, already built")
    parser.add_argument("--without-peers", action="store_true")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../care-encoders/benches"))
    import inference_peer as peer

    with open(args.queries, encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    program = peer.Care(args.model, args.threads, args.program)
    engines = {f"package-{precision}": package(args.model, precision) for precision in ("f32", "int8")}
    with tempfile.TemporaryDirectory() as folder:
        if not args.without_peers:
            engines["sentence-transformers-f32"] = sentence_transformers(args.model, args.threads)
            engines |= onnx_runtime(peer, args.model, folder, args.threads)
        measure(engines, program, args, texts)


def measure(engines, program, args, texts):
    times = {}
    for number in range(args.rounds + 1):
        first = number * SHARE % max(1, len(texts) - SHARE)
        part = texts[first : first + SHARE]

        def of_program(precision):
            return program.ask(f"queries {precision} {os.path.abspath(args.queries)} {first} {len(part)}")

        turns = [(name, lambda call=call: [timed(call, text) for text in part]) for name, call in engines.items()]
        turns += [(f"program-{name}", lambda name=name: of_program(name)) for name in ("f32", "int8")]
        # Who comes first alternates. The first round warms up.
        for name, turn in turns[:: 1 if number % 2 else -1]:
            found = turn()
            if number > 0:
                times.setdefault(name, []).extend(found)
            # Threads of ONNX Runtime and PyTorch spin for a while after a call.
            time.sleep(0.2)
    median = {name: statistics.median(found) for name, found in times.items()}
    for name, found in sorted(times.items()):
        line = {"engine": name, "median_ms": round(median[name], 3)}
        line["p90_ms"] = round(sorted(found)[len(found) * 9 // 10], 3)
        precision = name.rsplit("-", 1)[1]
        if name.startswith("package"):
            line["ratio_to_program"] = round(median[name] / median[f"program-{precision}"], 3)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
