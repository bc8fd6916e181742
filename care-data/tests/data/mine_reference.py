#!/usr/bin/env python3
"""Hard negatives by brute force: every rule of care_data::mine, written a second time.

    python3 mine_reference.py                              writes mine.json beside itself (random texts, many ties)
    python3 mine_reference.py --toyhom FOLDER OUT.json     2,000 queries and all documents of a folder with train.jsonl
                                                           and corpus.jsonl

Needs numpy. The second form is compared by `CARE_MINE_FIXTURE=OUT.json cargo test -p care-data --test mine_reference`.
Vectors have few distinct values, so that every dot product is exact in f32 and many are equal.
"""
import argparse
import hashlib
import json
import os
import random
import unicodedata

import numpy as np

M64 = (1 << 64) - 1

# --- care_data::normalise ---------------------------------------------------------------------------------------------

UNITS = {"㎟": "mm²", "㎠": "cm²", "㎡": "m²", "㎢": "km²", "㎣": "mm³", "㎤": "cm³", "㎥": "m³", "㎦": "km³", "㎨": "m/s²",
         "㎯": "rad/s²"}
KEPT = [(0xB2, 0xB3), (0xB9, 0xB9), (0xBC, 0xBE), (0x2070, 0x208E), (0x2150, 0x215F), (0x2189, 0x2189), (0x2460, 0x24FF),
        (0x3200, 0x32BF), (0x2025, 0x2026), (0x2120, 0x2120), (0x2122, 0x2122)]


def folded(text):
    out, plain = [], ""
    for c in text:
        if c in UNITS or any(low <= ord(c) <= high for low, high in KEPT):
            out += [unicodedata.normalize("NFKC", plain), UNITS.get(c, c)]
            plain = ""
        else:
            plain += c
    text = "".join(out) + unicodedata.normalize("NFKC", plain)
    table = {**{c: "-" for c in range(0x2010, 0x2014)}, 0x2212: "-", ord("≦"): "≤", ord("⩽"): "≤", ord("≧"): "≥",
             ord("⩾"): "≥", ord("∕"): "/", ord("⁄"): "/"}
    return text.translate(table).replace("<=", "≤").replace(">=", "≥")


def is_numeric(c):
    return unicodedata.category(c) in ("Nd", "Nl", "No")


def is_alphanumeric(c):
    return c.isalpha() or is_numeric(c) or unicodedata.category(c) in ("Nl",) or c in "ⅠⅡ"


def is_symbol(chars, at):
    c = chars[at]
    if c not in "+±⁺⁻.-<>≤≥/%‰":
        return False
    if c in "+±⁺⁻":
        return True
    after = chars[at + 1:at + 200]

    def number_follows():
        start = next((x for x in after if not x.isspace() and x not in ".-+±"), None)
        return start is not None and is_numeric(start)

    if c == ".":
        return bool(after) and is_numeric(after[0])
    if c == "-":
        return number_follows()
    before = next((x for x in reversed(chars[max(0, at - 200):at]) if not x.isspace()), None)
    return (before is not None and is_numeric(before)) or number_follows()


def normalise(text):
    text = folded(text)
    form, dropped = [], False
    for at, c in enumerate(text):
        if not is_alphanumeric(c) and not is_symbol(text, at):
            dropped = True
            continue
        if dropped and c in "0123456789" and form and form[-1][-1:] in tuple("0123456789"):
            form.append(" ")
        dropped = False
        form.append(c.lower())
    return "".join(form) or text.strip()


def trigrams(text):
    text = normalise(text)
    return {text} if 0 < len(text) <= 3 else {text[i:i + 3] for i in range(len(text) - 2)}


def near(a, b):
    common = len(a & b)
    return bool(a) and common / max(1, len(a) + len(b) - common) >= 0.8


# --- draws ------------------------------------------------------------------------------------------------------------


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def seed_of(seed, text):
    return int.from_bytes(hashlib.sha256(seed.to_bytes(8, "little") + text.encode()).digest()[:8], "little")


def document_hash(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


# --- the rules --------------------------------------------------------------------------------------------------------

DEFAULTS = dict(ranks=[10, 210], count="results", depth=None, max_score=None, min_score=None, absolute_margin=None,
                relative_margin=None, against="lowest", negatives=15, sample=None, short="keep", fill_seed=0, near=True,
                sources=["vectors"], quotas=None)


class Reference:
    def __init__(self, corpus, queries, vectors, run):
        self.documents, self.queries, self.vectors, self.run = list(corpus), queries, vectors, run
        self.corpus = len(corpus)
        numbers = {}
        for number, text in enumerate(corpus):
            numbers.setdefault(text, number)
        for query in queries:
            query["numbers"] = []
            for text in query["positives"]:
                if text not in numbers:
                    numbers[text] = len(self.documents)
                    self.documents.append(text)
                query["numbers"].append(numbers[text])
        self.keys = [normalise(text) for text in self.documents]
        self.grams = [trigrams(text) for text in self.documents]
        self.hashes = [document_hash(text) for text in self.documents]
        of_text = {}
        for query in queries:
            query["key"] = normalise(query["text"])
            of_text.setdefault(query["key"], []).append(query)
        for query in queries:
            others = [number for other in of_text[query["key"]] if other is not query for number in other["numbers"]]
            query["known"] = sorted(set(others) - set(query["numbers"]))
        matrix = np.array([vectors[text] for text in self.documents], dtype=np.float64)
        self.scores = np.array([vectors[query["text"]] for query in queries], dtype=np.float64) @ matrix.T
        self.guards = {}

    def guard(self, q, document, with_near):
        query = self.queries[q]
        key = self.keys[document]
        if key in [self.keys[p] for p in query["numbers"]]:
            return "positive"
        if key in [self.keys[p] for p in query["known"]]:
            return "known_positive"
        if key == query["key"]:
            return "own_text"
        if with_near:
            if (q, document) not in self.guards:
                positives = query["numbers"] + query["known"]
                self.guards[q, document] = any(near(self.grams[p], self.grams[document]) for p in positives)
            if self.guards[q, document]:
                return "near_duplicate"
        return None

    def search(self, q, source, depth):
        if source == "run":
            return [document for document, _ in sorted(self.run[q], key=lambda hit: (-hit[1], hit[0]))][:depth]
        scores = self.scores[q, :self.corpus]
        return np.lexsort((np.arange(self.corpus), -scores))[:depth].tolist()

    def score(self, q, source, document):
        if source == "run":
            return dict(map(tuple, self.run[q])).get(document)
        return float(self.scores[q, document])

    def refuse(self, rules, score, positive):
        margins = rules["absolute_margin"] is not None or rules["relative_margin"] is not None
        if not margins and rules["max_score"] is None and rules["min_score"] is None:
            return None
        if score is None or (margins and positive is None):
            return "no_score"
        if rules["max_score"] is not None and score > rules["max_score"]:
            return "max_score"
        if rules["absolute_margin"] is not None and score > positive - rules["absolute_margin"]:
            return "absolute_margin"
        if rules["relative_margin"] is not None and score > positive - abs(positive) * rules["relative_margin"]:
            return "relative_margin"
        if rules["min_score"] is not None and score < rules["min_score"]:
            return "min_score"
        return None

    def sift(self, q, rules, ranking, positive, drops):
        skip, through = rules["ranks"]
        left, texts = [], set()
        for rank, document in enumerate(ranking):
            score = self.score(q, rules["sources"][0], document)
            if rules["count"] == "results" and not skip <= rank < through:
                reason = "ranks"
            else:
                reason = self.guard(q, document, rules["near"]) or self.refuse(rules, score, positive)
                if reason is None and self.keys[document] in texts:
                    reason = "repeated"
            if reason:
                drops[reason] = drops.get(reason, 0) + 1
            else:
                texts.add(self.keys[document])
                left.append((document, score))
        if rules["count"] == "allowed":
            dropped = len(left) - len(left[skip:through])
            if dropped:
                drops["ranks"] = drops.get("ranks", 0) + dropped
            left = left[skip:through]
        return left

    def take(self, q, rules, count, left, source, taken):
        free = [(rank, hit) for rank, hit in enumerate(left) if self.keys[hit[0]] not in taken]
        if rules["sample"] is not None:
            seed = seed_of(rules["sample"], self.queries[q]["text"])
            free.sort(key=lambda item: (mix(seed ^ self.hashes[item[1][0]]), item[0]))
        free = sorted(free[:count])
        taken.update(self.keys[hit[0]] for _, hit in free)
        return [[document, score, source] for _, (document, score) in free]

    def fill(self, q, rules, negatives, taken):
        missing = rules["negatives"] - len(negatives)
        seed, drawn = seed_of(rules["fill_seed"], self.queries[q]["text"]), []
        for draw in range(100 + 20 * missing):
            if len(drawn) == missing:
                break
            document = mix(seed ^ draw) % self.corpus
            if self.guard(q, document, rules["near"]) is None and self.keys[document] not in taken:
                taken.add(self.keys[document])
                drawn.append(document)
        return [[document, self.score(q, rules["sources"][0], document), None] for document in drawn]

    def one(self, q, rules, totals):
        query = self.queries[q]
        positives = [self.score(q, rules["sources"][0], number) for number in query["numbers"]]
        choose = dict(lowest=min, highest=max, mean=lambda scores: sum(scores) / len(scores))[rules["against"]]
        positive = None if None in positives else choose(positives)
        more = len(query["numbers"]) + len(query["known"]) if rules["count"] == "allowed" else 0
        depth = rules["depth"] or rules["ranks"][1] + more
        rankings = [self.search(q, source, depth) for source in rules["sources"]]
        if len(rankings) > 1 and rules["quotas"] is None:
            sums = {}
            for ranking in rankings:
                for rank, document in enumerate(ranking):
                    sums[document] = sums.get(document, 0.0) + 1.0 / (60.0 + rank + 1)
            longest = max(map(len, rankings))
            rankings = [sorted(sums, key=lambda document: (-sums[document], document))[:longest]]
        taken, negatives, sifted = set(), [], []
        for total, ranking in zip(totals, rankings):
            drops = {}
            left = self.sift(q, rules, ranking, positive, drops)
            sifted.append(left)
            total["results"] += len(ranking)
            total["left"] += len(left)
            for reason, count in drops.items():
                total["dropped"][reason] = total["dropped"].get(reason, 0) + count
        for source, quota in enumerate(rules["quotas"] or []):
            negatives += self.take(q, rules, quota, sifted[source], source, taken)
        for source, left in enumerate(sifted):
            negatives += self.take(q, rules, rules["negatives"] - len(negatives), left, source, taken)
        negatives.sort(key=lambda negative: negative[2])
        mined = len(negatives)
        if rules["short"] == "fill":
            negatives += self.fill(q, rules, negatives, taken)
        if rules["short"] == "drop" and mined < rules["negatives"]:
            return positives, None, mined
        for negative in negatives[:mined]:
            totals[negative[2]]["taken"] += 1
        return positives, negatives, mined

    def case(self, **changes):
        rules = {**DEFAULTS, **changes}
        sources = 1 if rules["quotas"] is None else len(rules["sources"])
        totals = [dict(results=0, left=0, taken=0, dropped={}) for _ in range(sources)]
        expected, short, without = [], 0, 0
        for q in range(len(self.queries)):
            positives, negatives, mined = self.one(q, rules, totals)
            short += mined < rules["negatives"]
            without += mined == 0
            expected.append([positives, negatives])
        return dict(rules=rules, expected=expected, short=short, without=without, sources=totals)


def cases(small):
    k = (lambda n: n // 10) if small else (lambda n: n)
    base = dict(ranks=[k(10), k(210)], negatives=4 if small else 15)
    yield base
    yield dict(base, near=False)
    yield dict(base, count="allowed")
    yield dict(base, count="allowed", absolute_margin=0.0625, depth=4 * k(210))
    yield dict(base, count="allowed", relative_margin=0.25, ranks=[k(30), k(100)])
    yield dict(base, max_score=0.5)
    yield dict(base, max_score=0.25, count="allowed")
    yield dict(base, min_score=0.375)
    yield dict(base, max_score=0.625, min_score=0.25)
    for against in ["lowest", "highest", "mean"]:
        yield dict(base, absolute_margin=0.125, against=against)
        yield dict(base, relative_margin=0.05, against=against)
    yield dict(base, relative_margin=0.5, absolute_margin=0.25, max_score=0.75, min_score=-0.5)
    yield dict(base, ranks=[0, k(100)], relative_margin=0.05, negatives=4 if small else 10)
    yield dict(base, sample=0)
    yield dict(base, sample=42, max_score=0.5)
    yield dict(base, sample=2**64 - 1, count="allowed", relative_margin=0.125)
    yield dict(base, relative_margin=0.25, short="drop")
    yield dict(base, relative_margin=0.25, short="fill", fill_seed=7)
    yield dict(base, sources=["vectors", "run"])
    yield dict(base, sources=["vectors", "run"], relative_margin=0.125, sample=3)
    yield dict(base, sources=["vectors", "run"], quotas=[base["negatives"] - base["negatives"] // 2, base["negatives"] // 2])
    yield dict(base, sources=["vectors", "run"], quotas=[1, base["negatives"] - 1], sample=9, absolute_margin=0.0625)
    yield dict(base, sources=["run"], ranks=[0, k(210)])
    yield dict(base, sources=["run"], ranks=[0, k(210)], relative_margin=0.125, short="fill")


def random_set():
    """Texts of 4 to 12 characters of few kinds, with copies that differ in punctuation or in one character."""
    rng = random.Random(18)
    alphabet = [chr(0x4E00 + 37 * n) for n in range(60)]
    text = lambda: "".join(rng.choice(alphabet) for _ in range(rng.randint(4, 30)))
    corpus = [text() for _ in range(90)]
    for at in rng.sample(range(90), 25):
        corpus.append(corpus[at] + rng.choice(["。", "！", " ", "", "药"]))
    rng.shuffle(corpus)
    queries = []
    for number in range(40):
        positives = rng.sample(corpus, rng.choice([1, 1, 2, 3]))
        if number % 5 == 0:
            positives[0] = rng.choice([text(), positives[0] + "？"])
        # About what its first positive is about, or a document of the corpus.
        query = positives[0][::-1] + positives[0] if number % 7 else rng.choice(corpus)
        if queries and number % 6 == 0:
            query = rng.choice(queries)["text"] + rng.choice(["", "？"])
        queries.append(dict(text=query, positives=list(dict.fromkeys(positives))))
    return corpus, queries, rng


def toyhom(folder):
    rng = random.Random(18)
    corpus = [json.loads(line)["text"].strip() for line in open(f"{folder}/corpus.jsonl")]
    rows = [json.loads(line) for line in open(f"{folder}/train.jsonl")]
    rows = rng.sample(rows, 1950)
    queries = [dict(text=row["query"], positives=[text.strip() for text in row["pos"]]) for row in rows]
    # Queries that come twice, with another answer.
    for query in rng.sample(queries, 50):
        queries.append(dict(text=query["text"] + "？", positives=[rng.choice(corpus), rng.choice(corpus)]))
    return corpus, queries, rng


def vector(text, dim, most):
    """A sum of random signs, one vector per bigram, in few steps: near texts are near."""
    sums = np.zeros(dim)
    for at in range(len(text) - 1):
        digest = hashlib.sha256(text[at:at + 2].encode()).digest()
        sums += np.unpackbits(np.frombuffer(digest, np.uint8))[:dim] * 2.0 - 1.0
    norm = np.linalg.norm(sums) or 1.0
    return (np.round(sums / norm * most) / most).tolist()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--toyhom", nargs=2)
    args = parser.parse_args()
    corpus, queries, rng = toyhom(args.toyhom[0]) if args.toyhom else random_set()
    dim, most = (64, 16) if args.toyhom else (6, 4)
    texts = {*corpus, *(query["text"] for query in queries), *(text for query in queries for text in query["positives"])}
    vectors = {text: vector(text, dim, most) for text in sorted(texts)}
    length = 300 if args.toyhom else 25
    run = [[[document, rng.randint(0, 40) / 8] for document in rng.sample(range(len(corpus)), length)] for _ in queries]
    run[3] = []
    reference = Reference(corpus, queries, vectors, run)
    found = [reference.case(**changes) for changes in cases(not args.toyhom)]
    data = dict(corpus=corpus, queries=[{key: query[key] for key in ("text", "positives")} for query in queries],
                vectors=vectors, run=run, cases=found)
    out = args.toyhom[1] if args.toyhom else os.path.join(os.path.dirname(os.path.abspath(__file__)), "mine.json")
    with open(out, "w") as file:
        json.dump(data, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")
    for case in found:
        print({k: v for k, v in case["rules"].items() if v != DEFAULTS[k]}, case["short"], case["without"], case["sources"])


if __name__ == "__main__":
    main()
