#!/usr/bin/env python3
"""What one would write oneself: an encoder behind FastAPI, a peer of `care serve` in load_peer.py.

    pip install torch transformers sentence-transformers onnxruntime fastapi "uvicorn[standard]" orjson
    fastapi_server.py MODEL [--graph FILE] [--batching] [--port PORT]

MODEL is a Hugging Face folder, which sentence-transformers computes; with --graph, ONNX Runtime computes this graph of it.
One worker with --threads threads. Each request is computed by itself in FastAPI's thread pool; with --batching, all
that wait are computed together, at most --batch of them, while the next ones arrive.

POST /embed takes `{"inputs": TEXT}` and gives `[VECTOR]`, of mean pooling and length 1, as text-embeddings-inference does.
"""
import argparse
import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

LENGTH = 512


def by_sentence_transformers(model, threads):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    # A folder without modules gets mean pooling.
    encoder = SentenceTransformer(model, device="cpu")
    encoder.max_seq_length = LENGTH

    def encode(texts):
        return encoder.encode(texts, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False)

    return encode


def by_onnxruntime(model, graph, threads):
    from tokenizers import Tokenizer

    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "care-encoders", "benches"))
    from inference_peer import onnx_session

    session = onnx_session(graph, threads)
    kinds = {wanted.name: np.int32 if "int32" in wanted.type else np.int64 for wanted in session.get_inputs()}
    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    # Masked, so the id does not matter.
    tokenizer.enable_padding(pad_id=0)

    def encode(texts):
        encodings = tokenizer.encode_batch(texts)
        mask = np.array([encoding.attention_mask for encoding in encodings])
        known = {"input_ids": np.array([encoding.ids for encoding in encodings]), "attention_mask": mask}
        states = session.run(None, {name: known[name].astype(kind) for name, kind in kinds.items()})[0]
        vectors = (states * mask[..., None]).sum(1, dtype=np.float32) / mask.sum(1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    return encode


class Batches:
    """Computes what waits together, one batch after another."""

    def __init__(self, encode, most):
        self.encode, self.most, self.waiting = encode, most, asyncio.Queue()
        self.thread = ThreadPoolExecutor(1)
        self.task = asyncio.create_task(self.run())

    async def run(self):
        while True:
            batch = [await self.waiting.get()]
            while len(batch) < self.most and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            texts = [text for text, _ in batch]
            try:
                vectors = await asyncio.get_running_loop().run_in_executor(self.thread, self.encode, texts)
            except Exception as error:  # pylint: disable=broad-except
                for _, answer in batch:
                    answer.set_exception(error)
                continue
            for (_, answer), vector in zip(batch, vectors):
                answer.set_result(vector)

    async def vector(self, text):
        answer = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait((text, answer))
        return await answer


class Question(BaseModel):
    inputs: str


def app(encode, most):
    server = FastAPI()

    def answer(vector):
        return Response(orjson.dumps([vector], option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    if most:
        batches = []

        @server.post("/embed")
        async def embed(question: Question):
            if not batches:
                batches.append(Batches(encode, most))
            return answer(await batches[0].vector(question.inputs))

    else:

        @server.post("/embed")
        def embed(question: Question):
            return answer(encode([question.inputs])[0])

    @server.get("/health")
    def health():
        return {}

    return server


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--graph")
    parser.add_argument("--instruction", default="", help="put in front of each text")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batching", action="store_true")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    if arguments.graph:
        encoder = by_onnxruntime(arguments.model, arguments.graph, arguments.threads)
    else:
        encoder = by_sentence_transformers(arguments.model, arguments.threads)
    uvicorn.run(
        app(lambda texts: encoder([arguments.instruction + text for text in texts]), arguments.batching * arguments.batch),
        host="127.0.0.1", port=arguments.port, log_level="warning",
    )
