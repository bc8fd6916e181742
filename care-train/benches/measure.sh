#!/usr/bin/env bash
# Measures the training figures in docs/performance.md other than step times.
#
#   bash care-train/benches/measure.sh ENCODER DECODER DATA [memory] [teacher] [decoder]
#
# ENCODER is the Hugging Face folder of a BERT with hidden size 384 (multilingual-e5-small), DECODER that of a decoder
# with at least this hidden size (SmolLM2-135M), DATA a folder with train.jsonl and align-queries.jsonl. Needs GNU time.
set -euo pipefail
encoder=$(cd "$1" && pwd) decoder=$(cd "$2" && pwd) data=$(cd "$3" && pwd)
shift 3
cd "$(dirname "$0")/../.."
cargo build --release -p care-cli
care=$PWD/target/release/care
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

towers() { # folder and options of the document tower, maximum length of both towers
  cat << TOML
[model.query]
encoder = "$encoder"
options = { layers = [0, 4, 8, 11], pooling = "mean", max_length = $3, instruction = "query: " }
[model.document]
encoder = "$1"
options = { max_length = $3, $2 }
TOML
}

train() { # a name and the command that runs care; the configuration is on stdin
  cat > "$1.toml"
  "${@:2}" "$care" train --config "$1.toml" 2> "$1.err" || { cat "$1.err"; exit 1; }
}

memory() { # a batch of 8, and one of 256 in sub-batches of 8
  for batch in 8 256; do
    train "batch-$batch" /usr/bin/time -f "%M KB peak memory" -o "batch-$batch.time" << TOML
output = "batch-$batch"
checkpoint_every = 0
$(towers "$encoder" 'pooling = "mean", instruction = "passage: "' 160)
[[stage]]
kind = "joint-finetuning"
data = ["$data/train.jsonl"]
batch_size = $batch
max_steps = $((batch == 8 ? 3 : 1))
$([ "$batch" = 8 ] || echo "grad_cache = 8")
query = { freeze_token_table = true, dropout = 0.0 }
document = { freeze_token_table = true, dropout = 0.0 }
TOML
    echo "batch $batch: $(cat "batch-$batch.time")"
  done
}

teacher() { # 20 steps of stage 1 without the cache, with a cold cache, and with a warm one
  head -n 400 "$data/align-queries.jsonl" > align.jsonl
  for name in none cold warm; do
    train "$name" env << TOML
output = "$name"
checkpoint_every = 0
$([ "$name" = none ] && echo "cache_teacher = false" || echo 'cache = "teacher"')
$(towers "$decoder" 'dim = 384' 64)
[[stage]]
kind = "query-alignment"
data = ["align.jsonl"]
batch_size = 16
max_steps = 20
query = { freeze_token_table = true, dropout = 0.0 }
TOML
    python3 - "$name" << 'PYTHON'
import json, statistics, sys
steps = [json.loads(line) for line in open(f"{sys.argv[1]}/log.jsonl")]
seconds = statistics.median(step["seconds"] for step in steps[1:])
print(f"cache {sys.argv[1]}: {seconds:.3f} s per step, last loss {steps[-1]['loss']:.6f}")
PYTHON
  done
}

decoder() { # 50 steps of a LoRA adapter on a decoder with 64 rows, killed after 20 steps and resumed
  head -n 64 "$data/train.jsonl" > rows.jsonl
  train decoder true << TOML
output = "decoder"
checkpoint_every = 10
$(towers "$decoder" 'dim = 384, pooling = "mean"' 64)
[[stage]]
kind = "joint-finetuning"
data = ["rows.jsonl"]
epochs = 7
batch_size = 8
group_size = 2
max_steps = 50
learning_rate = 1e-3
loss = [{ kind = "info-nce", temperature = 0.05 }]
query = { freeze_token_table = true, dropout = 0.0, learning_rate = 5e-4 }
document = { train = "lora", lora = { rank = 16, alpha = 32.0, dropout = 0.0 } }
TOML
  "$care" train --config decoder.toml 2> decoder.err &
  until [ -d decoder/checkpoints/stage-0001-step-00000020 ]; do sleep 0.2; done
  kill -9 $!
  "$care" train --config decoder.toml --resume
  python3 - << 'PYTHON'
import json
losses = [json.loads(line)["loss"] for line in open("decoder/log.jsonl")]
mean = lambda some: sum(some) / len(some)
print(f"decoder: {len(losses)} steps, mean loss of the first ten {mean(losses[:10]):.3f}, of the last ten {mean(losses[-10:]):.3f}")
PYTHON
  ls decoder/adapters-stage-1/document
}

for what in "${@:-memory teacher decoder}"; do
  for one in $what; do "$one"; done
done
