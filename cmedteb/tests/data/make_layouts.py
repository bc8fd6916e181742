"""Writes a small part of the demonstration set to this folder in every layout, with Python's `datasets`.

    pip install datasets
    python make_layouts.py

    beir/                 corpus.jsonl, queries.jsonl, qrels/test.tsv
    mteb-retrieval/       mteb 2: corpus/, queries/, qrels/, two shards of the corpus
    c-mteb-retrieval/     C-MTEB: data/corpus-*, data/queries-*; judgements in c-mteb-retrieval-qrels/
    rows-reranking/       data/test-*: query, positive, negative
    jsonl-reranking/      test.jsonl, the same
    mteb-reranking/       mteb 2: the same with corpus/, queries/, default/, top_ranked/
    rows-sts/             data/test-*: sentence1, sentence2, score
    jsonl-sts/            test.jsonl, the same
"""

import json
import shutil
from pathlib import Path

from datasets import Dataset, __version__

HERE = Path(__file__).parent
MINI = HERE.parents[1] / "data" / "mini"
DOCUMENTS, ROWS = 40, 12


def rows(name):
    with open(MINI / name, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def jsonl(path, items):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def parquet(folder, split, items, shards=1):
    folder.mkdir(parents=True, exist_ok=True)
    data = Dataset.from_list(items)
    for shard in range(shards):
        part = data.shard(shards, shard, contiguous=True)
        part.to_parquet(folder / f"{split}-{shard:05}-of-{shards:05}.parquet")


def retrieval():
    corpus = rows("corpus.jsonl")[:DOCUMENTS]
    known = {row["_id"] for row in corpus}
    with open(MINI / "qrels" / "test.tsv", encoding="utf-8") as lines:
        judged = [line.split() for line in list(lines)[1:]]
    judged = [(query, doc, int(score)) for query, doc, score in judged if doc in known]
    asked = {query for query, _, _ in judged}
    queries = [row for row in rows("queries.jsonl") if row["_id"] in asked]
    jsonl(HERE / "beir/corpus.jsonl", corpus)
    jsonl(HERE / "beir/queries.jsonl", queries)
    tsv = HERE / "beir/qrels/test.tsv"
    tsv.parent.mkdir(exist_ok=True)
    lines = ["query-id\tcorpus-id\tscore"] + [f"{query}\t{doc}\t{score}" for query, doc, score in judged]
    tsv.write_text("\n".join(lines) + "\n", encoding="utf-8")

    mteb = HERE / "mteb-retrieval"
    plain = [{"_id": row["_id"], "title": row.get("title") or "", "text": row["text"]} for row in corpus]
    parquet(mteb / "corpus", "test", plain, shards=2)
    parquet(mteb / "queries", "test", [{"_id": row["_id"], "text": row["text"]} for row in queries])
    parquet(mteb / "qrels", "test", [{"query-id": q, "corpus-id": d, "score": s} for q, d, s in judged])

    older = HERE / "c-mteb-retrieval"
    joined = [{"id": row["_id"], "text": f"{row['title']} {row['text']}".strip()} for row in plain]
    parquet(older / "data", "corpus", joined)
    parquet(older / "data", "queries", [{"id": row["_id"], "text": row["text"]} for row in queries])
    parquet(HERE / "c-mteb-retrieval-qrels" / "data", "test", [{"qid": q, "pid": d, "score": s} for q, d, s in judged])
    return plain, queries, judged


def reranking(documents, questions, judgements):
    """Each question with its relevant documents and seven others."""
    lists = []
    for question in questions[:ROWS]:
        relevant = {doc for query, doc, score in judgements if query == question["_id"] and score > 0}
        others = [row["text"] for row in documents if row["_id"] not in relevant][len(lists) :: 5][:7]
        positive = [row["text"] for row in documents if row["_id"] in relevant]
        lists.append({"query": question["text"], "positive": positive, "negative": others})
    jsonl(HERE / "jsonl-reranking/test.jsonl", lists)
    parquet(HERE / "rows-reranking" / "data", "test", lists)
    corpus, queries, judged, ranked = [], [], [], []
    whole = [row for row in lists if row["positive"] and row["negative"]]
    # mteb drops rows that lack a side before it writes this form.
    for number, row in enumerate(whole):
        query, found = f"test_query{number}", []
        queries.append({"_id": query, "text": row["query"]})
        for side, score, texts in (("apositive", 1, row["positive"]), ("negative", 0, row["negative"])):
            for place, text in enumerate(texts):
                doc = f"{side}_{query}_{place:05}"
                found.append(doc)
                corpus.append({"_id": doc, "title": "", "text": text})
                judged.append({"query-id": query, "corpus-id": doc, "score": float(score)})
        ranked.append({"query-id": query, "corpus-ids": found})
    mteb = HERE / "mteb-reranking"
    for name, items in (("corpus", corpus), ("queries", queries), ("default", judged), ("top_ranked", ranked)):
        parquet(mteb / name, "test", items)


def sts():
    pairs = rows("sts.jsonl")[:ROWS]
    jsonl(HERE / "jsonl-sts/test.jsonl", pairs)
    parquet(HERE / "rows-sts" / "data", "test", pairs)


if __name__ == "__main__":
    for folder in HERE.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    reranking(*retrieval())
    sts()
    (HERE / "versions.txt").write_text(f"datasets {__version__}\n")
