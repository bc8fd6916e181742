"""One query from text to vector: this package, the Rust benchmark, sentence-transformers and ONNX Runtime, in turns.

    cargo bench -p care-encoders --bench inference --no-run
    pip install care-retrieval torch sentence-transformers onnx onnxruntime
    python latency.py MODEL QUERIES PROGRAM [--rounds 5] [--count 300]

MODEL is a Hugging Face folder of a BERT-like encoder with mean pooling, QUERIES a JSON Lines file with `text`, PROGRAM what
the first command built. Prints a JSON object per engine: the median of all rounds and the 99th percentile, in milliseconds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import care_retrieval
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "care-encoders" / "benches"))


def of_package(model: str, precision: str) -> Callable[[str], object]:
    pair = care_retrieval.Pair.open(model, pooling="mean", precision=precision)
    return lambda text: pair.embed_queries([text])


def of_sentence_transformers(model: str) -> Callable[[str], object]:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(model, device="cpu")
    return lambda text: encoder.encode([text], normalize_embeddings=True)


def of_onnx_runtime(model: str, folder: str, threads: int) -> dict[str, Callable[[str], object]]:
    from inference_peer import network, onnx_sessions
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")

    def query(session: object) -> Callable[[str], object]:
        def embed(text: str) -> object:
            ids = np.array([tokenizer.encode(text).ids])
            known = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            feed = {i.name: known[i.name].astype(np.int32 if "int32" in i.type else np.int64) for i in session.get_inputs()}
            mean = session.run(None, feed)[0].mean(axis=1)
            return mean / np.linalg.norm(mean)

        return embed

    return {name: query(session) for name, session in onnx_sessions(network(model), folder, threads).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("queries")
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=300, help="queries of a round")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with open(args.queries, encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines][: args.count]
    import torch

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "queries.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        engines = {f"care_retrieval {precision}": of_package(args.model, precision) for precision in ("f32", "int8")}
        engines["sentence-transformers f32"] = of_sentence_transformers(args.model)
        for name, query in of_onnx_runtime(args.model, folder, args.threads).items():
            engines[f"onnxruntime {name}"] = query
        times: dict[str, list[float]] = {name: [] for name in engines}
        medians: dict[str, list[dict[str, float]]] = {}
        for _ in range(args.rounds):
            for name, query in engines.items():
                for text in texts[:20]:
                    query(text)
                for text in texts:
                    start = time.perf_counter()
                    query(text)
                    times[name].append((time.perf_counter() - start) * 1e3)
                # Threads of some engines spin for a while after a call.
                time.sleep(0.2)
            command = [args.program, args.model, "queries", f"{folder}/queries.jsonl"]
            for line in subprocess.check_output(command, text=True).splitlines():
                answer = json.loads(line)
                medians.setdefault(f"Rust {answer['precision']}", []).append(answer)
    for name, values in times.items():
        median, p99 = statistics.median(values), float(np.quantile(values, 0.99))
        print(json.dumps({"engine": name, "median_ms": round(median, 3), "p99_ms": round(p99, 3)}))
    for name, answers in medians.items():
        median, p99 = (statistics.median(answer[key] for answer in answers) for key in ("median_ms", "p99_ms"))
        print(json.dumps({"engine": name, "median_ms": round(median, 3), "p99_ms": round(p99, 3)}))


if __name__ == "__main__":
    main()
