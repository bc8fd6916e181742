"""Writes small Parquet files of every column type that ids and texts come in, with Python's `datasets` and `pyarrow`.

    pip install datasets pyarrow duckdb
    python make_columns.py

    columns/CODEC.parquet   two documents, by every compression codec
    columns/binary.parquet  ids and texts as bytes, and a column of bytes that are no text
    columns/uuid.parquet    ids as UUIDs, by DuckDB
    columns/json.parquet    ids and lists as JSON: rows that differ in type, by `datasets`
    columns/times.parquet   ids as dates, times and timestamps
    columns/numbers.parquet ids as integers and decimals, grades as floats and decimals
    columns/bytes.parquet   ids as bytes that are no text
"""

import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_dataset

HERE = Path(__file__).parent / "columns"


def write(name, columns, **options):
    pq.write_table(pa.table(columns), HERE / f"{name}.parquet", **options)


def main():
    HERE.mkdir(exist_ok=True)
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]:
        write(codec, {"_id": ["d1", "d2"], "text": ["头痛先休息", "少吃盐"]}, compression=codec)
    binary = [b"d1", "d\u00e9".encode()]
    texts = ["头痛先休息".encode(), b"salt"]
    write(
        "binary",
        {
            "_id": pa.array(binary, pa.binary()),
            "text": pa.array(texts, pa.large_binary()),
            "picture": pa.array([b"\xff\xd8", b"\x89P"], pa.binary()),
            "crawled": pa.array([1, 2], pa.timestamp("us")),
        },
    )
    write("bytes", {"_id": pa.array([b"d1", b"\xff\xfe"], pa.binary()), "text": ["a", "b"]})
    duckdb.sql(
        "copy (select '6f9619ff-8b86-d011-b42d-00c04fc964ff'::uuid as _id, 'a' as text union all "
        "select '00000000-0000-0000-0000-00000000000a'::uuid, 'b' order by text) "
        f"to '{HERE / 'uuid.parquet'}' (format parquet)"
    )
    mixed = HERE / "mixed.jsonl"
    mixed.write_text(
        '{"_id": "d1", "text": "a", "query": "q", "positive": ["p", "\\"p\\""], "negative": ["n"]}\n'
        '{"_id": 2, "text": "b", "query": "r", "positive": "s", "negative": ["n"]}\n',
        encoding="utf-8",
    )
    load_dataset("json", data_files=str(mixed), split="train").to_parquet(HERE / "json.parquet")
    mixed.unlink()
    day = datetime.date(2020, 1, 1)
    write(
        "times",
        {
            "date": pa.array([day], pa.date32()),
            "time": pa.array([1], pa.time64("us")),
            "time_ns": pa.array([1], pa.time64("ns")),
            "timestamp": pa.array([datetime.datetime(2020, 1, 1)], pa.timestamp("ms", "UTC")),
            "timestamp_ns": pa.array([1], pa.timestamp("ns")),
        },
    )
    write(
        "numbers",
        {
            "int8": pa.array([7, -7], pa.int8()),
            "uint64": pa.array([2**64 - 1, 0], pa.uint64()),
            "decimal": pa.array([Decimal("12.00"), Decimal("-3.00")], pa.decimal128(10, 2)),
            "grade": pa.array([1.0, -1.0], pa.float32()),
            "decimal_grade": pa.array([Decimal("1.0"), Decimal("2.0")], pa.decimal128(2, 1)),
            "half": pa.array([0.5, 1.5], pa.float64()),
        },
    )


if __name__ == "__main__":
    main()
