"""Encodes a corpus with Spark: every Python worker opens the pair once, and gets batches of rows.

    pip install care-retrieval "pyspark==4.3.0" "pandas<3" pyarrow      # and Java 17
    export PYSPARK_PYTHON=python      # of this environment: the workers have `python3` by default
    RAYON_NUM_THREADS=1 python spark_embed.py --model mini --corpus corpus.jsonl --output vectors

The corpus has JSON Lines with `_id`, `text` and, if there is one, `title`. The output is a folder of Parquet files with
`id` and `vector`.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator

import pyarrow
from pyspark.sql import SparkSession
from pyspark.sql.functions import col, lit

from care_retrieval import Pair

ROWS_OF_A_BATCH = "spark.sql.execution.arrow.maxRecordsPerBatch"


def embedder(model: str) -> Callable[[Iterable[pyarrow.RecordBatch]], Iterator[pyarrow.RecordBatch]]:
    """A function of Spark from batches of id, title and text to batches of id and the vector of the document tower."""

    def embed(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        pair = Pair.open(model)
        for batch in batches:
            ids, titles, texts = batch.columns
            titles = (title or "" for title in titles.to_pylist())
            vectors = pair.embed_documents(zip(titles, texts.to_pylist()))
            offsets = pyarrow.array(range(0, vectors.size + 1, pair.dimensions), pyarrow.int32())
            lists = pyarrow.ListArray.from_arrays(offsets, vectors.reshape(-1))
            yield pyarrow.RecordBatch.from_arrays([ids, lists], ["id", "vector"])

    return embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--partitions", type=int, default=2)
    args = parser.parse_args()
    spark = SparkSession.builder.config(ROWS_OF_A_BATCH, 1024).getOrCreate()
    corpus = spark.read.json(args.corpus)
    title = col("title") if "title" in corpus.columns else lit("")
    rows = corpus.select(col("_id").alias("id"), title.alias("title"), "text").repartition(args.partitions)
    rows.mapInArrow(embedder(args.model), "id string, vector array<float>").write.parquet(args.output)


if __name__ == "__main__":
    main()
