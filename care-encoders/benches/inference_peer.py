#!/usr/bin/env python3
"""What else encodes on a CPU, beside this: PyTorch, ONNX Runtime in f32 and int8, sentence-transformers.

    pip install torch transformers sentence-transformers onnx onnxruntime
    inference_peer.py shapes MODEL            medians at fixed shapes, and their ratios
    inference_peer.py corpus MODEL TEXTS      documents a second: the first 1,000 rows' `text`, 512 tokens at most
    inference_peer.py base FOLDER             makes a BERT-base with random weights for the two

MODEL is a Hugging Face folder. Both sides read the same weights and use --threads threads. They take turns, a few calls
each, since the speed of a shared machine changes from minute to minute. ONNX Runtime runs the graph after its optimiser
for transformers has fused it; in int8, dynamically quantised with weights of 8 bits, the plain graph and the fused one,
of which the faster counts.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import tempfile
import time

SHAPES = [(1, 16), (1, 32), (1, 128), (8, 128), (32, 32), (1, 512), (8, 512)]
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Care:
    """The benchmark of this crate, which answers requests."""

    def __init__(self, model, threads, program=None):
        self.process = subprocess.Popen(
            [program or self.build(), os.path.abspath(model), "serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
        )

    @staticmethod
    def build():
        """Builds the benchmark of this tree."""
        build = ["cargo", "build", "--release", "--bench", "inference"]
        subprocess.run(build, cwd=ROOT, check=True)
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
        built = [path for path in glob.glob(f"{target}/release/deps/inference-*") if not path.endswith(".d")]
        return max(built, key=os.path.getmtime)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def forward(self, precision, rows, tokens, count):
        return self.ask(f"forward {precision} {rows} {tokens} {count}")


def timed(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def network(model):
    from transformers import AutoModel

    return AutoModel.from_pretrained(model, attn_implementation="eager").float().eval()


def onnx_graphs(torch_model, folder):
    """Files of ONNX Runtime's f32 and int8 graphs of a network."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer

    class States(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = torch_model

        def forward(self, input_ids, attention_mask):
            return self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    plain, fused = (os.path.join(folder, f"{name}.onnx") for name in ("plain", "fused"))
    example = torch.randint(5, 100, (2, 8))
    axes = {name: {0: "rows", 1: "tokens"} for name in ("input_ids", "attention_mask", "last_hidden_state")}
    torch.onnx.export(
        States(), (example, torch.ones_like(example)), plain, input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"], dynamic_axes=axes, opset_version=17, dynamo=False,
    )
    config = torch_model.config
    heads, width = config.num_attention_heads, config.hidden_size
    optimizer.optimize_model(plain, "bert", num_heads=heads, hidden_size=width).save_model_to_file(fused)
    # What the fused operators give has no type that the quantiser could infer.
    types = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    for path in (plain, fused):
        quantize_dynamic(path, path + ".int8", weight_type=QuantType.QInt8, extra_options=types)
    return {"f32": fused, "int8": plain + ".int8", "int8-fused": fused + ".int8"}


def onnx_session(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onnx_sessions(torch_model, folder, threads):
    """ONNX Runtime's f32 and int8 sessions of a network."""
    return {precision: onnx_session(path, threads) for precision, path in onnx_graphs(torch_model, folder).items()}


def builds(model, threads, program, beside):
    """The benchmark of this tree, and the same benchmark of another build if there is one."""
    engines = {"care": Care(model, threads, program)}
    if beside:
        engines["beside"] = Care(model, threads, beside)
    return engines


def shapes(model, threads, rounds, program, beside):
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    torch_model = network(model)
    engines = builds(model, threads, program, beside)
    with tempfile.TemporaryDirectory() as folder:
        sessions = onnx_sessions(torch_model, folder, threads)
        for rows, tokens in SHAPES:
            ids = np.random.default_rng(0).integers(5, 10_000, (rows, tokens))
            tensor = torch.from_numpy(ids)

            def by_torch():
                with torch.inference_mode():
                    torch_model(input_ids=tensor).last_hidden_state

            def by_onnx(session):
                known = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
                feed = {}
                for wanted in session.get_inputs():
                    kind = np.int32 if "int32" in wanted.type else np.int64
                    feed[wanted.name] = known[wanted.name].astype(kind)
                return lambda: session.run(None, feed)

            count = 2 if rows * tokens > 512 else 5
            times = {}
            for number in range(rounds):
                for precision in ("f32", "int8"):
                    for session in sessions:
                        if session.startswith(precision):
                            call = by_onnx(sessions[session])
                            call()
                            times.setdefault(f"onnxruntime-{session}", []).extend(timed(call) for _ in range(count))
                            # Its threads spin for a while after a call.
                            time.sleep(0.1)
                    # Who comes first alternates, since it comes right after the peers.
                    for engine, care in list(engines.items())[:: 1 if number % 2 else -1]:
                        care.forward(precision, rows, tokens, 1)
                        answer = care.forward(precision, rows, tokens, count)
                        times.setdefault(f"{engine}-{precision}", []).extend(answer)
                by_torch()
                times.setdefault("torch-f32", []).extend(timed(by_torch) for _ in range(count))
            median = {engine: statistics.median(values) for engine, values in times.items()}
            line = {"rows": rows, "tokens": tokens}
            line |= {engine: round(value, 2) for engine, value in median.items()}
            for precision in ("f32", "int8"):
                peer = min(value for engine, value in median.items() if engine.startswith(f"onnxruntime-{precision}"))
                ratio = median[f"care-{precision}"] / peer
                line[f"ratio-{precision}"] = round(ratio, 3)
                if beside:
                    ratio = median[f"care-{precision}"] / median[f"beside-{precision}"]
                    line[f"ratio-beside-{precision}"] = round(ratio, 3)
            print(json.dumps(line), flush=True)


def corpus(model, texts, threads, program, beside, limit=1000, length=512):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    with open(texts, encoding="utf-8") as lines:
        documents = [json.loads(line)["text"] for line in lines][:limit]
    # A folder without modules gets mean pooling.
    peer = SentenceTransformer(model, device="cpu")
    peer.max_seq_length = length
    peer.encode(documents[:16])
    engines = builds(model, threads, program, beside)
    sizes, precisions, parts = (8, 32), ("f32", "int8"), 4
    seconds = {}

    def add(engine, milliseconds):
        seconds[engine] = seconds.get(engine, 0) + milliseconds / 1e3

    # Turn by turn over parts of the documents, since a machine's speed may change within a minute.
    each = -(-len(documents) // parts)
    for number, first in enumerate(range(0, len(documents), each)):
        part = documents[first : first + each]
        for size in sizes:
            took = timed(lambda: peer.encode(part, batch_size=size, normalize_embeddings=True))
            add(f"sentence-transformers, batches of {size}", took)
        for precision in precisions:
            for engine, care in list(engines.items())[:: 1 if number % 2 else -1]:
                took = care.ask(f"corpus {precision} {os.path.abspath(texts)} {first} {len(part)}")[0]
                add(f"{engine}-{precision}", took)
    speeds = {engine: len(documents) / value for engine, value in seconds.items()}
    peer_best = max(value for engine, value in speeds.items() if engine.startswith("sentence"))
    for engine, value in speeds.items():
        line = {"engine": engine, "documents_per_s": round(value, 2), "times_the_peer": round(value / peer_best, 2)}
        print(json.dumps(line), flush=True)


def base(folder):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=21128)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + [f"w{number}" for number in range(config.vocab_size - len(special))]
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[SEP]", 3), ("[CLS]", 2)]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as out:
        json.dump({"tokenizer_class": "BertTokenizer", "pad_token": "[PAD]"}, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["shapes", "corpus", "base"])
    parser.add_argument("model")
    parser.add_argument("texts", nargs="?")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--limit", type=int, default=1000, help="documents of the corpus")
    parser.add_argument("--program", help="this tree's benchmark, already built")
    parser.add_argument("--beside", help="the same benchmark of another build, which takes turns too")
    arguments = parser.parse_args()
    if arguments.what == "shapes":
        shapes(arguments.model, arguments.threads, arguments.rounds, arguments.program, arguments.beside)
    elif arguments.what == "base":
        base(arguments.model)
    elif arguments.texts:
        corpus(
            arguments.model, arguments.texts, arguments.threads, arguments.program, arguments.beside, arguments.limit
        )
    else:
        parser.error("corpus needs TEXTS")
