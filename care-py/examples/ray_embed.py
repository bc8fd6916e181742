"""Encodes a corpus with Ray Data: every actor opens the pair once, and gets batches of rows.

    pip install care-retrieval "ray[data]==2.60.0"
    RAYON_NUM_THREADS=1 python ray_embed.py --model mini --corpus corpus.jsonl --output vectors

The corpus has JSON Lines with `_id`, `text` and, if there is one, `title`. The output is a folder of Parquet files with
`id` and `vector`. An actor holds a CPU, and reading needs one too: with as many actors as CPUs, Ray waits for ever.
"""

import argparse

import pyarrow
import ray

from care_retrieval import Pair


class Embed:
    """From rows of a corpus to the vectors of the document tower."""

    def __init__(self, model: str) -> None:
        self.pair = Pair.open(model)

    def __call__(self, rows: pyarrow.Table) -> pyarrow.Table:
        texts = rows["text"].to_pylist()
        titles = rows["title"].to_pylist() if "title" in rows.column_names else [None] * len(texts)
        vectors = self.pair.embed_documents(zip((title or "" for title in titles), texts))
        numbers = pyarrow.array(vectors.reshape(-1))
        return pyarrow.table(
            {"id": rows["_id"], "vector": pyarrow.FixedSizeListArray.from_arrays(numbers, self.pair.dimensions)}
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--actors", type=int, default=1)
    args = parser.parse_args()
    corpus = ray.data.read_json(args.corpus)
    vectors = corpus.map_batches(
        Embed,
        fn_constructor_args=(args.model,),
        batch_format="pyarrow",
        batch_size=1024,
        compute=ray.data.ActorPoolStrategy(size=args.actors),
    )
    vectors.write_parquet(args.output)


if __name__ == "__main__":
    main()
