#!/usr/bin/env bash
# lancedb 0.40.0: rows with a zero vector are hidden by the cosine distance, a zero query finds nothing, and an approximate index of
# fewer than 256 rows is made without an error and holds none of them.
#
# Input: 200 random vectors and one that is zero, in one table; no index at first.
#
# Seen: a search for 500 rows by `dot` and `l2` returns 201, by `cosine` 200: the zero row is in no result, though without an
# index every row is compared. A zero query returns 0 rows by `cosine`. `create_index` (IVF_PQ) succeeds, the index is listed, and
# `index_stats` says 0 indexed and 201 unindexed rows; with 300 rows it says 300 and 0.
# Harm: a failed embedding (all zeros) is not found to be there, and the same query has other numbers of rows by the distance. A
# test of the index on a small sample tests no index.
#
# Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lancedb==0.40.0 numpy
cd "$folder"
venv/bin/python -W ignore - <<'PY'
import lancedb
import numpy as np
import pyarrow as pa

random = np.random.default_rng(0)


def table(name, vectors):
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).reshape(-1)), vectors.shape[1])
    return lancedb.connect("db").create_table(name, pa.table({"id": pa.array(range(len(vectors))), "vector": column}))


def rows(table, query, distance):
    return len(table.search(query.astype(np.float32)).distance_type(distance).limit(500).to_list())


def indexed(table):
    table.create_index(metric="dot", num_partitions=1, num_sub_vectors=4)
    stats = table.index_stats(table.list_indices()[0].name)
    return stats.num_indexed_rows, stats.num_unindexed_rows


vectors = np.vstack([np.zeros((1, 32)), random.normal(size=(200, 32))])
small, query, zero = table("small", vectors), vectors[7], vectors[0]
found = {distance: rows(small, query, distance) for distance in ("dot", "l2", "cosine")}
print(f"201 rows, found by distance: {found}; by a zero query and cosine: {rows(small, zero, 'cosine')}")
assert found == {"dot": 201, "l2": 201, "cosine": 200}, "the zero row is found now"
assert rows(small, zero, "cosine") == 0, "a zero query finds rows now"
few, many = indexed(small), indexed(table("large", random.normal(size=(300, 32))))
print(f"indexed and unindexed rows: {few} of 201, {many} of 300")
assert few == (0, 201) and many == (300, 0), "a small index holds rows now"
PY
