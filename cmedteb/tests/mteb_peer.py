"""Scores the same vectors with mteb and with `care eval`: `mteb_peer.py CARE MODEL FOLDER`.

    pip install mteb numpy
    python cmedteb/tests/mteb_peer.py target/release/care MODEL FOLDER

CARE is the program, MODEL a model's folder, FOLDER a folder for files. The script exports the built-in demonstration
set, embeds its texts with `care embed`, and gives mteb a model that looks these vectors up. For retrieval, reranking and
STS it prints every score that both report, ours and the difference, and exits with status 1 if a difference is above
1e-6. Files that exist in FOLDER are reused.
"""

import json
import subprocess
import sys
from pathlib import Path

import mteb
import numpy as np
from datasets import Dataset, DatasetDict
from mteb._evaluators import retrieval_metrics
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

LIMIT = 1e-6
# mteb rounds scores to five digits; we compare all of them.
retrieval_metrics.round = lambda value, digits=None: round(value) if digits is None else value


def rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class Vectors:
    """The texts of one role and their vectors from `care embed`."""

    def __init__(self, care, model, role, texts, folder):
        self.texts = sorted(set(texts))
        source, target = folder / f"{role}.jsonl", folder / f"{role}.npy"
        with open(source, "w", encoding="utf-8") as out:
            out.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in self.texts)
        command = [care, "embed", "--model", model, "--role", role, "--input", source, "--output", target]
        if not target.exists():
            subprocess.run(command, check=True)
        self.rows = dict(zip(self.texts, np.load(target)))

    def of(self, texts):
        return np.stack([self.rows[text] for text in texts])


def metadata(name, kind, main):
    return TaskMetadata(
        name=name, description=name, dataset={"path": "local/none", "revision": "1"}, type=kind, category="t2t",
        modalities=["text"], eval_splits=["test"], eval_langs=["cmn-Hans"], main_score=main, date=None, domains=None,
        task_subtypes=None, license=None, annotations_creators=None, dialect=None, sample_creation=None,
        bibtex_citation=None, reference=None,
    )


def ranking_task(name, kind, main, corpus, queries, qrels, candidates=None):
    class Task(AbsTaskRetrieval):
        pass

    Task.metadata = metadata(name, kind, main)
    task = Task()
    task.dataset = {
        "default": {
            "test": {
                "corpus": Dataset.from_list(corpus),
                "queries": Dataset.from_list(queries),
                "relevant_docs": qrels,
                "top_ranked": candidates,
            }
        }
    }
    task.data_loaded = True
    return task


def sts_task(name, pairs):
    class Task(AbsTaskSTS):
        min_score, max_score = 0, 5

    Task.metadata = metadata(name, "STS", "cosine_spearman")
    task = Task()
    task.dataset = DatasetDict({"test": Dataset.from_list(pairs)})
    task.data_loaded = True
    return task


class LookUp(mteb.models.abs_encoder.AbsEncoder):
    """A model that looks vectors up."""

    def __init__(self, queries, documents):
        self.vectors = {"query": queries, "document": documents}
        self.mteb_model_meta = mteb.models.ModelMeta.create_empty(overwrites={"name": "care/vectors", "revision": "1"})

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        # STS has no roles: the query tower encodes both sentences, as in `care eval` by default.
        role = "document" if prompt_type is not None and prompt_type.value == "document" else "query"
        texts = [text for batch in inputs for text in batch["text"]]
        return self.vectors[role].of(texts)


def main(care, model, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    demo = folder / "demo"
    if not demo.exists():
        subprocess.run([care, "demo-data", "--output", demo], check=True)
    results = folder / "results"
    command = [care, "eval", "--model", model, "--task", demo, "--output", results]
    if not results.exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    corpus = [{"id": row["_id"], "title": "", "text": f"{row.get('title') or ''} {row['text']}".strip()}
              for row in rows(demo / "corpus.jsonl")]
    judged = [line.split("\t") for line in (demo / "qrels/test.tsv").read_text("utf-8").splitlines()[1:]]
    qrels = {}
    for query, doc, score in judged:
        qrels.setdefault(query, {})[doc] = int(score)
    queries = [{"id": row["_id"], "text": row["text"]} for row in rows(demo / "queries.jsonl") if row["_id"] in qrels]
    lists = [row for row in rows(demo / "reranking.jsonl") if row["positive"] and row["negative"]]
    r_corpus, r_queries, r_qrels, candidates = [], [], {}, {}
    for number, row in enumerate(lists):
        query = f"test_query{number}"
        r_queries.append({"id": query, "text": row["query"]})
        for side, score in (("positive", 1), ("negative", 0)):
            for place, text in enumerate(row[side]):
                doc = f"{'a' if score else ''}{side}_{query}_{place:05}"
                r_corpus.append({"id": doc, "title": "", "text": text})
                r_qrels.setdefault(query, {})[doc] = score
                candidates.setdefault(query, []).append(doc)
    pairs = rows(demo / "sts.jsonl")

    sentences = [pair[key] for pair in pairs for key in ("sentence1", "sentence2")]
    asked = [row["text"] for row in queries + r_queries] + sentences
    vectors = LookUp(
        Vectors(care, model, "query", asked, folder),
        Vectors(care, model, "document", [row["text"] for row in corpus + r_corpus], folder),
    )
    tasks = {
        "demo": ranking_task("DemoRetrieval", "Retrieval", "ndcg_at_10", corpus, queries, qrels),
        "demo-reranking": ranking_task("DemoReranking", "Reranking", "map_at_10", r_corpus, r_queries, r_qrels, candidates),
        "demo-sts": sts_task("DemoSTS", pairs),
    }
    print(f"mteb {mteb.__version__}")
    worst = 0.0
    for name, task in tasks.items():
        theirs = task.evaluate(vectors, split="test", encode_kwargs={})["default"]
        ours = json.loads((results / f"{name}.json").read_text("utf-8"))["scores"]["test"][0]
        for key, value in ours.items():
            if isinstance(value, float) and isinstance(theirs.get(key), float):
                difference = abs(value - theirs[key])
                worst = max(worst, difference)
                print(f"{name}\t{key}\t{value:.6f}\t{difference:.1e}")
    print(f"largest difference {worst:.1e}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
