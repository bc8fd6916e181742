#!/usr/bin/env bash
# Makes care-mini-zh: cuts the vocabulary, trains the teacher, merges it with what it was trained from, aligns the two small
# towers with it, and stores them in int8.
#
#   bash examples/mini/run.sh MODEL DATA
#
# MODEL is the Hugging Face folder of multilingual-e5-small, DATA the folder that ../toyhom/prepare.py reads. Python needs numpy and
# safetensors. Everything is written to runs/mini, and the pair at last to care-mini-zh/model. What is there is not computed again,
# and an interrupted training resumes. All repeats bit by bit on one machine. CARE is the absolute path of a program that is built
# already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
model=$(cd "$1" && pwd) data=$(cd "$2" && pwd) runs=runs/mini
mkdir -p "$runs"
care=${CARE:-$PWD/target/release/care}
[ -n "${CARE:-}" ] || cargo build --release -p care-cli

[ -d "$runs/data" ] || python3 "$here/../toyhom/prepare.py" "$data" "$runs/data"
[ -e "$runs/texts.jsonl" ] || python3 "$here/texts.py" "$runs/data" "$runs/texts.jsonl"
[ -e "$runs/parts.jsonl" ] || python3 "$here/parts.py" "$runs/data" "$runs/parts.jsonl"
[ -d "$runs/me5-zh" ] || "$care" prune-vocab --model "$model" --pooling mean --query-instruction "query: " \
  --document-instruction "passage: " --input "$runs/texts.jsonl" "$here/terms.txt" --min-count 2 \
  --check "$runs/data/test/queries.jsonl" "$runs/data/test/corpus.jsonl" --output "$runs/me5-zh"

train() {
  [ -d "$runs/$1/model" ] && return
  resume=()
  [ -e "$runs/$1/log.jsonl" ] && resume=(--resume)
  "$care" train --config "$here/$1.toml" "${resume[@]}"
}
train teacher
[ -d "$runs/merged" ] || python3 "$here/merge.py" "$runs/me5-zh" "$runs/teacher/model" 0.5 "$runs/merged"
train document
train query

# Each stage 1 trained the query tower of its pair.
rm -rf "$runs/care-mini-zh"
(cd "$runs" && "$care" convert --model query/model/query_0_Transformer \
  --document-model document/model/query_0_Transformer --pooling mean --query-instruction "query: " \
  --document-instruction "passage: " --precision int8 --max-length 512 --output care-mini-zh)
python3 "$here/pack.py" "$runs/care-mini-zh" care-mini-zh

mkdir -p "$runs/results"
for name in bm25 "$runs/me5-zh" "$runs/teacher/model" "$runs/merged" "$runs/care-mini-zh"; do
  short=$(basename "${name%/model}")
  "$care" eval --model "$name" --max-length 160 --task "$runs/data/test" --output "$runs/results/$short" > /dev/null
  printf '%s\t' "$short"
  "$care" metrics --qrels "$runs/data/test/qrels/test.tsv" --run "$runs/results/$short/test.trec" \
    --measures ndcg@10,recall@100 --missing zero --bootstrap 10000
done
