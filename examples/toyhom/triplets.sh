#!/usr/bin/env bash
# What hard negatives are worth: from raw pairs to triplets with `care data`, then stage 2 on negatives of four kinds.
#
#   bash examples/toyhom/triplets.sh MODEL DATA RERANKER [SEED ..]
#
# MODEL is the Hugging Face folder of multilingual-e5-small, DATA the folder that prepare.py reads, RERANKER the folder of a
# cross-encoder. Everything is written to runs/toyhom; existing results are not computed again, and an interrupted run resumes.
# At the end: nDCG@10 on the test questions, mean over the seeds, and the differences with intervals.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
model=$(cd "$1" && pwd) data=$(cd "$2" && pwd) reranker=$(cd "$3" && pwd)
seeds=("${@:4}")
[ ${#seeds[@]} -gt 0 ] || seeds=(1 2 3)
out=runs/toyhom/triplets
mkdir -p $out/rows $out/configs $out/results
[ -d runs/toyhom/data ] || python3 "$here/prepare.py" "$data" runs/toyhom/data
[ -e runs/toyhom/me5-small ] || ln -s "$model" runs/toyhom/me5-small
care=${CARE:-target/release/care}
[ -n "${CARE:-}" ] || cargo build --release -p care-cli

# The pair that finds candidates and whose document tower stays: the encoder as it comes.
pair=(--model runs/toyhom/me5-small --pooling mean --max-length 96
  --query-instruction "query: " --document-instruction "passage: " --cache runs/toyhom/vectors)

# OUTPUT, and the command that writes it.
make() {
  [ -e "$1" ] || "$care" "${@:2}" --output "$1"
}

# 1. Raw pairs: the negatives of the rows are not used. Duplicate questions go, and those that are in the test or dev set.
make $out/rows/pairs.jsonl data dedup runs/toyhom/data/train/train.jsonl \
  --against runs/toyhom/data/test/queries.jsonl runs/toyhom/data/dev/queries.jsonl --leaks $out/rows/leaks.jsonl
# 2. Negatives of four kinds, among the answers to the training questions.
make $out/rows/random.jsonl data mine --rows $out/rows/pairs.jsonl "${pair[@]}" --ranks 0-100000 --sample random --negatives 7
make $out/rows/bm25.jsonl data mine --rows $out/rows/pairs.jsonl --bm25 --ranks 0-50 --sample random --negatives 7
make $out/rows/mined.jsonl data mine --rows $out/rows/pairs.jsonl "${pair[@]}" --ranks 0-50 --sample random --negatives 7
make $out/rows/scored.jsonl data score $out/rows/mined.jsonl --reranker "$reranker" --reranker-max-length 192 \
  --reranker-precision int8
make $out/rows/cleaned.jsonl data clean --rows $out/rows/scored.jsonl --absolute-margin 0 --mode drop-negative --min-negatives 1

# NAME, SEED, and the rest of the configuration.
train() {
  [ -d "$out/$1/model" ] && return
  cat > "$out/configs/$1.toml" <<TOML
output = "../$1"
seed = $2
cache = "../../teacher"
checkpoint_every = 50

$3
TOML
  resume=()
  [ -e "$out/$1/log.jsonl" ] && resume=(--resume)
  "$care" train --config "$out/configs/$1.toml" "${resume[@]}"
}

options='pooling = "mean", max_length = 96'
# 3. Stage 1, once: a query tower of 4 of the 12 layers learns the vectors of the whole network.
train start 1 "[model.query]
encoder = \"../../me5-small\"
options = { layers = [0, 4, 8, 11], $options, instruction = \"query: \" }
[model.document]
encoder = \"../../me5-small\"
options = { $options, instruction = \"passage: \" }
[[stage]]
kind = \"query-alignment\"
data = [\"../../data/align/align-queries.jsonl\"]
max_steps = 200
batch_size = 64
learning_rate = 5e-4
warmup_ratio = 0.1
query = { freeze_token_table = true, dropout = 0.0 }"

# 4. Stage 2: the query tower alone; the document tower is frozen, and its vectors are those of the cache.
for seed in "${seeds[@]}"; do
  for rows in random bm25 mined cleaned; do
    train "$rows-$seed" "$seed" "[model]
pair = \"../start/model\"
[[stage]]
kind = \"joint-finetuning\"
data = [\"../rows/$rows.jsonl\"]
max_steps = 100
batch_size = 64
group_size = 4
learning_rate = 1e-4
warmup_ratio = 0.1
loss = [{ kind = \"info-nce\", temperature = 0.02 }]
query = { freeze_token_table = true, dropout = 0.0 }
document = { train = \"frozen\" }"
  done
done

# NAME and the model.
evaluate() {
  [ -e "$out/results/$1/test.json" ] || "$care" eval "${@:2}" --task runs/toyhom/data/test --cache runs/toyhom/vectors \
    --output "$out/results/$1" > /dev/null
}
evaluate bm25-alone --model bm25
evaluate start --model $out/start/model --max-length 96
for seed in "${seeds[@]}"; do
  for rows in random bm25 mined cleaned; do
    evaluate "$rows-$seed" --model "$out/$rows-$seed/model" --max-length 96
  done
done
python3 "$here/triplets.py" $out/results "${seeds[@]}"
