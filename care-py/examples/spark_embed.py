"""Encodes a corpus with Spark: every task opens the pair once, and gets batches of Arrow.

    pip install care-retrieval "pyspark==4.1.1" pyarrow pandas
    RAYON_NUM_THREADS=1 python spark_embed.py --model mini --corpus corpus.jsonl --output vectors

The corpus has JSON Lines with `_id`, `text` and, if there is one, `title`. The output is a folder of Parquet files with
`id` and `vector`.
"""

import argparse
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from care_retrieval import Pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--tasks", type=int, default=2)
    args = parser.parse_args()
    model: str = args.model

    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pair = Pair.open(model)
        for batch in batches:
            vectors = pair.embed_documents(batch.to_pylist())
            column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1]).cast(pa.list_(pa.float32()))
            yield pa.RecordBatch.from_arrays([batch["_id"], column], ["id", "vector"])

    spark = SparkSession.builder.master(f"local[{args.tasks}]").getOrCreate()
    corpus = spark.read.json(args.corpus).repartition(args.tasks)
    corpus.mapInArrow(embed, "id string, vector array<float>").write.parquet(args.output)
    spark.stop()


if __name__ == "__main__":
    main()
