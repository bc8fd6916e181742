#!/usr/bin/env bash
# pgvector 0.8.0 (Debian 13) on PostgreSQL 17: once a table has an HNSW index, the same query returns fewer rows than its LIMIT.
#
# Input: 3000 random vectors of 8 dimensions and one that is zero; `ORDER BY v <=> query LIMIT n`, with the defaults.
#
# Seen: LIMIT 50 returns 40 rows (`hnsw.ef_search` caps the candidates). LIMIT 10 with a filter that 30 rows fit returns fewer than
# 10, often none (the filter is applied to the 40). The zero row has the distance NaN, comes last without the index, and is in no
# result with it, even where all rows are asked for. Nothing warns. The first two are in its documentation, and
# `hnsw.iterative_scan` (off by default) mends them; the third remains, and `<#>` (inner product) avoids it.
# Harm: creating an index, usually thought to change only the speed, changes the number of rows.
#
# Needs a server: PSQL="psql -h 127.0.0.1 -U postgres" findings/pgvector_fewer_rows.sh
# Exits non-zero if the behaviour changes.
set -euo pipefail
read -r unlimited filtered few all with_zero without <<<"$(${PSQL:-psql} -qAtX -v ON_ERROR_STOP=1 <<'SQL' | tr '\n' ' '
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TEMP TABLE t (id int, v vector(8));
SELECT setseed(0.5) \g /dev/null
INSERT INTO t SELECT i, array_agg(random() - 0.5)::real[]::vector
  FROM generate_series(1, 3000) AS i, generate_series(1, 8) GROUP BY i;
INSERT INTO t VALUES (0, '[0,0,0,0,0,0,0,0]');
PREPARE top (int) AS SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> '[1,0,0,0,0,0,0,0]' LIMIT $1) AS s;
EXECUTE top (50);
CREATE INDEX ON t USING hnsw (v vector_cosine_ops);
DEALLOCATE top;
SET enable_seqscan = off;
SELECT count(*) FROM (SELECT id FROM t WHERE id % 100 = 7 ORDER BY v <=> '[1,0,0,0,0,0,0,0]' LIMIT 10) AS s;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> '[1,0,0,0,0,0,0,0]' LIMIT 50) AS s;
SET hnsw.ef_search = 1000; SET hnsw.iterative_scan = strict_order; SET hnsw.max_scan_tuples = 100000;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> '[1,0,0,0,0,0,0,0]' LIMIT 5000) AS s;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> '[1,0,0,0,0,0,0,0]' LIMIT 5000) AS s WHERE id = 0;
SET enable_seqscan = on; SET enable_indexscan = off;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> '[1,0,0,0,0,0,0,0]' LIMIT 5000) AS s;
SQL
)"
echo "LIMIT 50: $unlimited rows without an index, $few with it; LIMIT 10 of the 30 rows that fit a filter: $filtered"
echo "all rows: $without without the index, $all with it; the zero row is among the latter: $with_zero"
[ "$unlimited $few" = "50 40" ] || { echo "the index returns 50 rows now"; exit 1; }
[ "$filtered" -lt 10 ] || { echo "the filter leaves 10 rows now"; exit 1; }
[ "$without $all $with_zero" = "3001 3000 0" ] || { echo "the zero row is found now"; exit 1; }
