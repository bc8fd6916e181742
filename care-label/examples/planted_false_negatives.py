"""Rows with planted false negatives, and their scores, for planted_false_negatives.rs.

    python3 -m venv .venv && .venv/bin/pip install numpy torch transformers sentence-transformers
    .venv/bin/python planted_false_negatives.py TOYHOM ME5 OUT [--care PATH] [--scorers bm25 e5 ce] [--steps 400]

TOYHOM is a folder with train.jsonl (rows with `query`, one `pos`, seven `neg`) and corpus.jsonl; ME5 is a folder with
multilingual-e5-small. Writes OUT/planted.jsonl; texts are cut at 96 tokens:

  plant   2,000 rows, drawn with seed 18, whose answer has at least 100 characters. The answer is cut at the end of the
          sentence nearest to its middle; one half, drawn at random, stays the positive. In every second row, the other is put at a
          random place among the negatives: a known positive that is labelled negative. `neg_hidden` marks it. The seven
          negatives of a row stay, and some of them are unlabelled positives, so precision is a lower bound.
  bm25    character bigrams, k1 = 1.2, b = 0.75, over the corpus.
  e5      cosine of multilingual-e5-small, mean pooling, `query: ` and `passage: `, by `care embed` in int8.
  ce      a cross-encoder: the first layers of multilingual-e5-small and a linear head in sentence-transformers'
          CrossEncoder, trained here for some hundred steps on rows that share no answer with the planted ones. It is
          saved in OUT/reranker, for `--reranker` of care and examples/toyhom/triplets.sh.
"""
import argparse, json, math, os, random, re, subprocess, time
from collections import Counter

import numpy as np
import torch

PLANTED, SEED, MAX_LENGTH, LEARNING_RATE = 2000, 18, 96, 5e-5


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def halves(text):
    """The text in two, at the end of the sentence nearest to its middle; None if a half is short."""
    ends = [m.end() for m in re.finditer(r"[。！？；!?]+", text)]
    ends = [end for end in ends if 40 <= end <= len(text) - 40]
    if len(text) < 100 or not ends:
        return None
    middle = min(ends, key=lambda end: (abs(end - len(text) / 2), end))
    return text[:middle].strip(), text[middle:].strip()


def write(folder, rows):
    with open(f"{folder}/planted.jsonl", "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def plant(rows, rng):
    order = list(range(len(rows)))
    rng.shuffle(order)
    planted, answers, rest = [], set(), []
    for at in order:
        row = rows[at]
        cut = halves(row["pos"][0])
        if len(planted) < PLANTED and cut and row["pos"][0] not in answers:
            hidden = rng.randrange(2)
            negatives = [text for text in row["neg"] if text != row["pos"][0]]
            place = rng.randrange(len(negatives) + 1) if len(planted) % 2 == 0 else None
            if place is not None:
                negatives.insert(place, cut[hidden])
            marks = [int(at == place) for at in range(len(negatives))]
            planted.append({"query": row["query"], "pos": [cut[1 - hidden]], "neg": negatives, "neg_hidden": marks})
            answers.add(row["pos"][0])
        else:
            rest.append(row)
    return planted, [row for row in rest if row["pos"][0] not in answers]


class Bm25:
    def __init__(self, corpus, k1=1.2, b=0.75):
        self.k1, self.b = k1, b
        lengths, self.df = [], Counter()
        for text in corpus:
            grams = self.grams(text)
            lengths.append(len(grams))
            self.df.update(set(grams))
        self.n, self.mean = len(corpus), sum(lengths) / len(lengths)

    @staticmethod
    def grams(text):
        text = re.sub(r"\W+", "", text.lower())
        return [text[at : at + 2] for at in range(len(text) - 1)]

    def score(self, query, text):
        grams = self.grams(text)
        counts, total = Counter(grams), 0.0
        norm = self.k1 * (1 - self.b + self.b * len(grams) / self.mean)
        for gram in set(self.grams(query)):
            if tf := counts.get(gram):
                df = self.df.get(gram, 0)
                total += math.log(1 + (self.n - df + 0.5) / (df + 0.5)) * tf * (self.k1 + 1) / (tf + norm)
        return total


def encode(care, folder, out, role, texts):
    """Unit vectors by text, of `care embed` in int8; those of an earlier run with the same texts are read again."""
    texts = list(dict.fromkeys(texts))
    source, vectors = f"{out}/{role}.jsonl", f"{out}/{role}.npy"
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    if not (os.path.exists(vectors) and open(source, encoding="utf-8").read() == content):
        with open(source, "w", encoding="utf-8") as lines:
            lines.write(content)
        subprocess.check_call([care, "embed", "--model", folder, "--role", role, "--pooling", "mean", "--normalize",
                               "--max-length", str(MAX_LENGTH), "--precision", "int8",
                               "--instruction", {"query": "query: ", "document": "passage: "}[role],
                               "--input", source, "--output", vectors])
    return dict(zip(texts, np.load(vectors)))


def train(folder, rows, layers, steps, rng):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(folder, num_labels=1, max_length=MAX_LENGTH, device="cpu")
    network = model.model if hasattr(model, "model") else model[0].auto_model
    network.bert.encoder.layer = network.bert.encoder.layer[:layers]
    network.config.num_hidden_layers = layers
    # Most weights are embeddings, which some hundred steps would hardly change.
    network.bert.embeddings.requires_grad_(False)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.01)
    network.train()
    begin, losses = time.time(), []
    for step in range(steps):
        # 8 queries, each with its answer, another answer and one of its negatives; at first without the latter.
        harder = step >= steps // 3
        batch = [(row["query"], text, label)
                 for row in rng.sample(rows, 8)
                 for text, label in ((row["pos"][0], 1.0), (rng.choice(rows)["pos"][0], 0.0),
                                     (rng.choice(row["neg"] if harder else rng.choice(rows)["neg"]), 0.0))]
        tokens = model.tokenizer([b[0] for b in batch], [b[1] for b in batch], truncation="longest_first",
                                 max_length=MAX_LENGTH, padding=True, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(**tokens).logits.squeeze(-1).float()
        # The answer against its negatives, and each by itself.
        rows_of = logits.view(-1, 3)
        loss = torch.nn.functional.softplus(rows_of[:, 1:] - rows_of[:, :1]).mean()
        loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([b[2] for b in batch]))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / 60, (steps - step) / steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 25 == 0:
            print(f"step {step + 1}: loss {np.mean(losses[-25:]):.4f}, {time.time() - begin:.0f} s", flush=True)
    network.eval()
    return model, network


def rerank(model, network, pairs):
    order = sorted(range(len(pairs)), key=lambda at: len(pairs[at][0]) + len(pairs[at][1]))
    scores, begin = [0.0] * len(pairs), time.time()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(order), 32):
            group = order[start : start + 32]
            tokens = model.tokenizer([pairs[at][0] for at in group], [pairs[at][1] for at in group],
                                     truncation="longest_first", max_length=MAX_LENGTH, padding=True, return_tensors="pt")
            for at, score in zip(group, torch.sigmoid(network(**tokens).logits.squeeze(-1).float()).tolist()):
                scores[at] = score
            if start % 3200 == 0:
                print(f"reranked {start} of {len(pairs)}, {time.time() - begin:.0f} s", flush=True)
    return scores


def main():
    parser = argparse.ArgumentParser()
    for name in ("toyhom", "me5", "out"):
        parser.add_argument(name)
    parser.add_argument("--care", default="care", help="the care program")
    parser.add_argument("--scorers", nargs="+", default=["bm25", "e5", "ce"])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    os.makedirs(args.out, exist_ok=True)

    planted, rest = plant(read(f"{args.toyhom}/train.jsonl"), rng)
    print(f"{len(planted)} rows, {len(rest)} left to train on", flush=True)
    if os.path.exists(f"{args.out}/planted.jsonl"):
        known = read(f"{args.out}/planted.jsonl")
        assert [(row["query"], row["neg"]) for row in known] == [(row["query"], row["neg"]) for row in planted]
        planted = known
    documents = lambda row: row["pos"] + row["neg"]
    pairs = [(row["query"], text) for row in planted for text in documents(row)]

    if "bm25" in args.scorers:
        bm25 = Bm25([row["text"] for row in read(f"{args.toyhom}/corpus.jsonl")])
        put(planted, "bm25", [round(bm25.score(*pair), 4) for pair in pairs])
    if "e5" in args.scorers:
        queries = encode(args.care, args.me5, args.out, "query", [query for query, _ in pairs])
        texts = encode(args.care, args.me5, args.out, "document", [text for _, text in pairs])
        put(planted, "e5", [round(float(queries[query] @ texts[text]), 6) for query, text in pairs])
    write(args.out, planted)
    if "ce" in args.scorers:
        model, network = train(args.me5, rest, args.layers, args.steps, rng)
        model.save_pretrained(f"{args.out}/reranker")
        put(planted, "ce", [round(score, 6) for score in rerank(model, network, pairs)])
    write(args.out, planted)


def put(rows, name, scores):
    """Scores of all rows, one after the other, as `pos_NAME` and `neg_NAME`."""
    scores = iter(scores)
    for row in rows:
        row[f"pos_{name}"] = [next(scores) for _ in row["pos"]]
        row[f"neg_{name}"] = [next(scores) for _ in row["neg"]]


if __name__ == "__main__":
    main()
