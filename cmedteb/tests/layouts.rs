//! The same data in every layout, written by Python's `datasets` (`data/make_layouts.py`): counts are right, and scores do
//! not depend on the layout.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use care_core::{Document, Embedder, Embeddings, Query, Result, Text};
use cmedteb::{Outcome, Protocol, Task, evaluate, load};

/// A text's vector is the histogram of its characters over 64 buckets.
struct Characters;

fn embed<T: Text>(texts: &[T]) -> Embeddings {
    let mut embeddings = Embeddings::zeros(texts.len(), 64);
    for (row, text) in texts.iter().enumerate() {
        let mut counts = [0f32; 64];
        text.content().chars().for_each(|character| counts[character as usize % 64] += 1.0);
        embeddings.set(row, &counts);
    }
    embeddings
}

impl Embedder for Characters {
    fn embedding_dim(&self) -> usize {
        64
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        Ok(embed(queries))
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        Ok(embed(documents))
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The only task of a layout and its outcome.
fn scored(name: &str) -> (Task, Outcome) {
    let tasks = load(folder(name), None).unwrap();
    assert_eq!((tasks.len(), tasks[0].name(), tasks[0].split()), (1, name, "test"));
    let outcome = evaluate(&tasks[0], &Characters, &Protocol::default(), &mut |_| {}).unwrap();
    (tasks.into_iter().next().unwrap(), outcome)
}

#[test]
fn retrieval() {
    let (_, expected) = scored("beir");
    assert!((0.2..1.0).contains(&expected.main_score()), "{}", expected.main_score());
    for name in ["beir", "mteb-retrieval", "c-mteb-retrieval"] {
        let (task, outcome) = scored(name);
        let task = task.as_retrieval().unwrap();
        let counts = (task.corpus().len(), task.queries().len(), task.qrels().judgements().count());
        assert_eq!(counts, (40, 10, 37), "{name}");
        assert_eq!(outcome.scores, expected.scores, "{name}");
        assert_eq!(outcome.run(), expected.run(), "{name}");
    }
}

#[test]
fn reranking() {
    let (_, expected) = scored("jsonl-reranking");
    assert!((0.2..1.0).contains(&expected.main_score()), "{}", expected.main_score());
    // mteb drops such rows when it writes `top_ranked`.
    for (name, dropped) in [("jsonl-reranking", 2), ("rows-reranking", 2), ("mteb-reranking", 0)] {
        let (task, outcome) = scored(name);
        let Task::Reranking(task) = task else { panic!("{name}") };
        let candidates: usize = task.lists().iter().map(|list| list.candidates.len()).sum();
        assert_eq!((task.queries().len(), candidates, task.dropped()), (8, 67, dropped), "{name}");
        assert_eq!(outcome.scores, expected.scores, "{name}");
        assert_eq!(outcome.run(), expected.run(), "{name}");
    }
}

#[test]
fn sts() {
    let (expected, scores) = scored("jsonl-sts");
    for name in ["jsonl-sts", "rows-sts"] {
        let (task, outcome) = scored(name);
        let Task::Sts(task) = &task else { panic!("{name}") };
        assert_eq!(task.pairs().len(), 12);
        let Task::Sts(expected) = &expected else { panic!("{name}") };
        assert_eq!(task.pairs(), expected.pairs());
        assert_eq!(outcome.scores, scores.scores);
    }
}
