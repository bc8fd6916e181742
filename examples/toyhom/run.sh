#!/usr/bin/env bash
# Evaluates BM25, the encoder without training, and six retrievers, which it trains first.
#
#   bash examples/toyhom/run.sh MODEL DATA
#
# MODEL is the Hugging Face folder of multilingual-e5-small, DATA the folder that prepare.py reads. Everything is
# written to runs/toyhom. Existing results are not computed again, and an interrupted training resumes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
model=$(cd "$1" && pwd) data=$(cd "$2" && pwd)
mkdir -p runs/toyhom/results
[ -d runs/toyhom/data ] || python3 "$here/prepare.py" "$data" runs/toyhom/data
[ -e runs/toyhom/me5-small ] || ln -s "$model" runs/toyhom/me5-small
cargo build --release -p care-cli
care=target/release/care

train() {
  [ -d "runs/toyhom/$1/model" ] && return
  resume=()
  [ -e "runs/toyhom/$1/log.jsonl" ] && resume=(--resume)
  "$care" train --config "$here/$1.toml" "${resume[@]}"
}

# NAME, and the options that specify the model.
evaluate() {
  name=$1
  shift
  [ -e "runs/toyhom/results/$name/test.json" ] || "$care" eval "$@" --task runs/toyhom/data/test \
    --cache runs/toyhom/vectors --output "runs/toyhom/results/$name" > /dev/null
  printf '%s\t' "$name"
  "$care" metrics --qrels runs/toyhom/data/test/qrels/test.tsv --run "runs/toyhom/results/$name/test.trec" \
    --measures ndcg@10,recall@100 --missing zero --bootstrap 10000
}

encoder=(--model runs/toyhom/me5-small --pooling mean --max-length 160
  --query-instruction "query: " --document-instruction "passage: ")
evaluate bm25 --model bm25
evaluate zero-shot "${encoder[@]}"
evaluate untrained "${encoder[@]}" --query-layers 0,4,8,11
for run in stage1 both stage2-only symmetric aligned refined; do
  train "$run"
  evaluate "$run" --model "runs/toyhom/$run/model" --max-length 160
done
