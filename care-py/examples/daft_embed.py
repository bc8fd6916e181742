"""Encodes a corpus with Daft: every process opens the pair once, and gets batches of rows.

    pip install care-retrieval "daft==0.7.26"
    RAYON_NUM_THREADS=1 python daft_embed.py --model mini --corpus corpus.jsonl --output vectors

The corpus has JSON Lines with `_id`, `text` and, if there is one, `title`. The output is a folder of Parquet files with
`id` and `vector`.
"""

import argparse
from typing import Any

import daft
from daft import DataType, Series, col

from care_retrieval import Pair


def embedder(model: str, processes: int) -> Any:
    """A function of Daft from title and text to the vector of the document tower."""
    vector = DataType.embedding(DataType.float32(), Pair.open(model).dimensions)

    @daft.cls(max_concurrency=processes, use_process=True)
    class Embed:
        def __init__(self) -> None:
            self.pair = Pair.open(model)

        @daft.method.batch(return_dtype=vector)
        def __call__(self, title: Series, text: Series) -> Any:
            titles = (title or "" for title in title.to_pylist())
            return self.pair.embed_documents(zip(titles, text.to_pylist()))

    return Embed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    corpus = daft.read_json(args.corpus)
    title = col("title") if "title" in corpus.column_names else daft.lit("")
    embed = embedder(args.model, args.processes)
    corpus.select(col("_id").alias("id"), embed(title, col("text")).alias("vector")).write_parquet(args.output)


if __name__ == "__main__":
    main()
