#!/usr/bin/env bash
# Evaluates BM25, the encoder without training, and eight retrievers, which it trains first.
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

# NAME, the configuration, and options of `care train`.
train() {
  name=$1 config=$here/$2.toml
  shift 2
  [ -d "runs/toyhom/$name/model" ] && return
  resume=()
  [ -e "runs/toyhom/$name/log.jsonl" ] && resume=(--resume)
  "$care" train --config "$config" --set "output=../../runs/toyhom/$name" "$@" "${resume[@]}"
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
  train "$run" "$run"
done
# Four times the steps, and the alignment to that document tower.
longer=../../runs/toyhom/symmetric-256/model
train symmetric-256 symmetric --set stage.0.max_steps=256 --set evaluation.every=64
train aligned-256 aligned --set "model.query.encoder=$longer" --set "model.document.encoder=$longer"
for run in stage1 both stage2-only symmetric aligned refined symmetric-256 aligned-256; do
  evaluate "$run" --model "runs/toyhom/$run/model" --max-length 160
done
