#!/usr/bin/env bash
# text-dedup 0.4.0, `python -m text_dedup.minhash` with its defaults (but the threshold at 0.99, so that no English text counts as a
# duplicate): texts without spaces are left out, not compared.
#
# Input: 40 different Chinese questions of 16 to 40 characters without punctuation inside, and the same number of English ones.
# Seen: tokens are what stands between non-word characters, a text with fewer than `min_length` (5) of them is filtered out before
# any comparison, and a Chinese sentence is one token. All 40 Chinese questions are gone from the output; the English ones, which
# say the same number of different things, all stay. The program ends with success, and its log counts them as filtered.
# Harm: de-duplicating a Chinese corpus of short texts empties it, while the figure looks like a very high rate of duplicates.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet text-dedup==0.4.0 datasets==5.2.0
cd "$folder"
venv/bin/python - <<'PY'
import json

people = ["儿童", "孕妇", "老年人", "运动员", "上班族"]
illnesses = ["感冒发烧", "慢性胃炎", "过敏性鼻炎", "腰椎间盘突出", "偏头痛", "高血压", "缺铁性贫血", "荨麻疹"]
english = ["a child", "a pregnant woman", "an old man", "an athlete", "a clerk"]
names = ["a cold", "chronic gastritis", "hay fever", "a slipped disc", "migraine", "hypertension", "anaemia", "hives"]
rows = [f"{person}得了{illness}平时应该注意什么怎么治疗" for person in people for illness in illnesses]
rows += [f"What should {who} with {what} avoid and what treatment for {what} would suit {who} best?" for who in english for what in names]
assert len(set(rows)) == 80
with open("texts.jsonl", "w", encoding="utf-8") as file:
    for text in rows:
        file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
PY
HF_HUB_OFFLINE=1 venv/bin/python -m text_dedup.minhash --path json --data_files texts.jsonl --split train --column text \
  --cache_dir cache --output kept --threshold 0.99 > log.txt 2>&1 || { cat log.txt; exit 1; }
venv/bin/python - <<'PY'
from importlib.metadata import version

from datasets import load_from_disk

assert version("text-dedup") == "0.4.0"
kept = load_from_disk("kept")["text"]
chinese = sum("平时" in text for text in kept)
print(f"kept: {chinese} of 40 Chinese texts, {len(kept) - chinese} of 40 English ones")
assert chinese == 0, "Chinese texts are kept now"
assert len(kept) == 40, "English texts are dropped"
PY
