"""An exported Parquet file in pyarrow, DuckDB, polars, faiss and LanceDB: each opens it and finds what NumPy finds.

    care index export --index INDEX --to parquet --output docs.parquet
    pip install pyarrow duckdb polars faiss-cpu lancedb
    python open_parquet.py docs.parquet

A line per library tells its version and what it read; the exit status is 1 if a check fails. Queries are the first five vectors.
Scores are compared, and not ids, since each library orders equal scores in its own way.
"""

import importlib.metadata
import sys
import tempfile

import numpy as np
import pyarrow.parquet as pq

PATH, K, QUERIES = sys.argv[1], 10, 5
TABLE = pq.read_table(PATH)
DIM = TABLE.schema.field("vector").type.list_size
VECTORS = np.stack(TABLE["vector"].to_numpy(zero_copy_only=False)).astype(np.float32)
N = len(VECTORS)
EXACT = -np.sort(-(VECTORS[:QUERIES] @ VECTORS.T), axis=1)[:, :K]
failed = False


def check(package, scores, note):
    global failed
    scores = np.asarray(scores, dtype=np.float32)
    ok = scores.shape == EXACT.shape and np.allclose(scores, EXACT, rtol=1e-3, atol=1e-4)
    failed |= not ok
    print(f"{'ok   ' if ok else 'WRONG'} {package} {importlib.metadata.version(package)}: {note}")


def with_duckdb():
    import duckdb

    kind = duckdb.sql(f"SELECT typeof(vector) FROM '{PATH}' LIMIT 1").fetchall()[0][0]
    sql = f"""SELECT array_inner_product(vector::FLOAT[{DIM}], ?::FLOAT[{DIM}]) AS score, id, metadata::JSON AS metadata
              FROM '{PATH}' ORDER BY score DESC LIMIT {K}"""
    scores = [[row[0] for row in duckdb.execute(sql, [query.tolist()]).fetchall()] for query in VECTORS[:QUERIES]]
    check("duckdb", scores, f"vector is {kind}, cast to FLOAT[{DIM}]")


def with_polars():
    import polars as pl

    frame = pl.read_parquet(PATH)
    kind = frame.schema["vector"]
    vectors = frame["vector"].cast(pl.Array(pl.Float32, DIM)).to_numpy()
    check("polars", -np.sort(-(VECTORS[:QUERIES] @ vectors.T), axis=1)[:, :K], f"vector is {kind}")


def with_faiss():
    import faiss

    index = faiss.IndexFlatIP(DIM)
    index.add(VECTORS)
    check("faiss-cpu", index.search(VECTORS[:QUERIES], K)[0], f"IndexFlatIP of {index.ntotal} rows")


def with_lancedb():
    import lancedb

    with tempfile.TemporaryDirectory() as folder:
        table = lancedb.connect(folder).create_table("docs", TABLE)
        searches = [table.search(query).distance_type("dot").limit(K).to_list() for query in VECTORS[:QUERIES]]
        # Its distance is 1 - dot product.
        scores = [[1 - row["_distance"] for row in rows] for rows in searches]
        check("lancedb", scores, f"{table.count_rows()} rows, vector is {table.schema.field('vector').type}")


of_file = pq.read_metadata(PATH).metadata
metadata = {key.decode(): value.decode() for key, value in of_file.items() if key.startswith(b"care.")}
print(f"{N} rows of {DIM} dimensions, {metadata}")
check("pyarrow", EXACT, f"vector is {TABLE.schema.field('vector').type}")
for test in (with_duckdb, with_polars, with_faiss, with_lancedb):
    test()
sys.exit(failed)
