"""Encodes a corpus with Ray Data: every actor opens the pair once, and gets batches of rows.

    pip install care-retrieval "ray[data]==2.60.0"
    python ray_data.py --model mini --corpus corpus.jsonl --output vectors

The corpus has JSON Lines with `_id`, `text` and, if there is one, `title`. The output is a folder of Parquet files with
`id` and `vector`.
"""

import argparse
import os

import pyarrow as pa
import ray

from care_retrieval import Pair


class Embed:
    """Encodes documents with the document tower of a pair."""

    def __init__(self, model: str) -> None:
        self.pair = Pair.open(model)

    def __call__(self, batch: pa.Table) -> pa.Table:
        vectors = self.pair.embed_documents(batch.to_pylist())
        column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
        return pa.table({"id": batch["_id"], "vector": column})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each actor")
    args = parser.parse_args()
    # Without this, every actor starts as many threads as the machine has cores.
    ray.init(runtime_env={"env_vars": {"RAYON_NUM_THREADS": str(args.threads)}})
    corpus = ray.data.read_json(os.path.abspath(args.corpus), lines=True)
    vectors = corpus.map_batches(
        Embed,
        fn_constructor_args=(args.model,),
        batch_format="pyarrow",
        batch_size=1024,
        compute=ray.data.ActorPoolStrategy(size=args.actors),
        num_cpus=args.threads,
    )
    vectors.write_parquet(os.path.abspath(args.output))


if __name__ == "__main__":
    main()
