//! The built-in demonstration set: Chinese medical questions and answers from 16 departments.
//!
//! Written for this project, for learning and testing the software. It is **not medical advice**, and too small to judge
//! a model by. `data/mini/README.md` describes it.

mod export;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::LazyLock;

use care_core::{Document, Query, Text};
use care_eval::Qrels;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use export::write_to;

use crate::rows::{CorpusRow, QueryRow};
use crate::task::{RerankingRow, StsPair};

const README: &str = include_str!("../../data/mini/README.md");
const CORPUS: &str = include_str!("../../data/mini/corpus.jsonl");
const QUERIES: &str = include_str!("../../data/mini/queries.jsonl");
const STS: &str = include_str!("../../data/mini/sts.jsonl");

static DATA: LazyLock<Data> = LazyLock::new(Data::parse);

/// A part of the queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// 320 queries for training; grade 0 marks hard negatives.
    Train,
    /// 48 queries for choosing settings.
    Dev,
    /// 80 queries for reporting.
    Test,
    /// 64 queries whose judged documents are their candidates.
    Reranking,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 4] = [Self::Train, Self::Dev, Self::Test, Self::Reranking];

    /// The split's name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
            Self::Reranking => "reranking",
        }
    }

    /// The file with the split's judgements.
    fn tsv(self) -> &'static str {
        match self {
            Self::Train => include_str!("../../data/mini/qrels/train.tsv"),
            Self::Dev => include_str!("../../data/mini/qrels/dev.tsv"),
            Self::Test => include_str!("../../data/mini/qrels/test.tsv"),
            Self::Reranking => include_str!("../../data/mini/qrels/reranking.tsv"),
        }
    }
}

/// A question with texts that answer it and texts that nearly do. Serialises to a line of FlagEmbedding's training
/// files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingExample {
    /// The question.
    pub query: String,
    /// Texts that answer it, best first.
    #[serde(rename = "pos")]
    pub positives: Vec<String>,
    /// Near misses: texts judged not to answer it.
    #[serde(rename = "neg")]
    pub negatives: Vec<String>,
}

/// Every document and its id.
pub fn corpus() -> &'static [(String, Document)] {
    &DATA.corpus
}

/// The queries of a split and their ids.
pub fn queries(split: Split) -> Vec<(String, Query)> {
    DATA.queries.iter().filter(|(query_id, _)| qrels(split).get(query_id).is_some()).cloned().collect()
}

/// The judgements of a split.
pub fn qrels(split: Split) -> &'static Qrels {
    &DATA.qrels[split as usize]
}

/// The sentence pairs for STS.
pub fn sts_pairs() -> &'static [StsPair] {
    &DATA.sts
}

/// The reranking split as rows of texts, with title and text joined.
pub fn reranking_rows() -> Vec<RerankingRow> {
    let rows = examples(Split::Reranking).into_iter();
    rows.map(|row| RerankingRow { query: row.query, positive: row.positives, negative: row.negatives }).collect()
}

/// The training split as rows of texts, with title and text joined.
pub fn training_examples() -> Vec<TrainingExample> {
    examples(Split::Train)
}

/// Titles as queries, for more training rows: the positive is the text under the title, the hard negatives are the texts
/// of the other documents on the same subject.
pub fn title_examples() -> Vec<TrainingExample> {
    let rows = || corpus().iter().zip(&DATA.subjects).map(|((_, document), subject)| (document, subject));
    rows()
        .map(|(document, subject)| TrainingExample {
            query: document.title().to_owned(),
            positives: vec![document.text().to_owned()],
            negatives: rows()
                .filter(|&(other, its)| its == subject && other != document)
                .map(|(other, _)| other.text().to_owned())
                .collect(),
        })
        .collect()
}

/// Unlabelled texts for the first training stage: the training queries and every document.
pub fn alignment_texts() -> Vec<String> {
    let queries = queries(Split::Train).into_iter().map(|(_, query)| query.content().into_owned());
    queries.chain(corpus().iter().map(|(_, document)| document.content().into_owned())).collect()
}

fn examples(split: Split) -> Vec<TrainingExample> {
    let texts: HashMap<&str, &Document> = corpus().iter().map(|(doc_id, text)| (doc_id.as_str(), text)).collect();
    let example = |(query_id, query): (String, Query)| {
        let mut judged: Vec<_> = qrels(split).get(&query_id).into_iter().flatten().collect();
        judged.sort_by_key(|(_, grade)| Reverse(**grade));
        let (positives, negatives): (Vec<_>, Vec<_>) = judged.into_iter().partition(|(_, grade)| **grade > 0);
        let text = |(doc_id, _): (&String, &i32)| texts[doc_id.as_str()].content().into_owned();
        TrainingExample {
            query: query.content().into_owned(),
            positives: positives.into_iter().map(text).collect(),
            negatives: negatives.into_iter().map(text).collect(),
        }
    };
    queries(split).into_iter().map(example).collect()
}

struct Data {
    corpus: Vec<(String, Document)>,
    /// The subject of each document.
    subjects: Vec<Subject>,
    queries: Vec<(String, Query)>,
    qrels: [Qrels; 4],
    sts: Vec<StsPair>,
}

/// The subject of a document.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Subject {
    department: String,
    topic: String,
}

impl Data {
    fn parse() -> Self {
        #[derive(Deserialize)]
        struct Row {
            metadata: Subject,
        }
        Self {
            corpus: lines::<CorpusRow>(CORPUS).map(Into::into).collect(),
            subjects: lines(CORPUS).map(|row: Row| row.metadata).collect(),
            queries: lines::<QueryRow>(QUERIES).map(Into::into).collect(),
            qrels: Split::ALL.map(|split| judgements(split.tsv())),
            sts: lines(STS).collect(),
        }
    }
}

/// The rows of an embedded JSONL file. Cannot fail at run time: the tests read every line.
fn lines<T: DeserializeOwned>(file: &'static str) -> impl Iterator<Item = T> {
    file.lines().map(|line| serde_json::from_str(line).expect("the embedded file is well-formed"))
}

fn judgements(file: &str) -> Qrels {
    let judgements = file.lines().skip(1).map(|line| {
        let [query_id, doc_id, grade] =
            line.split('\t').collect::<Vec<_>>().try_into().expect("the embedded file has three columns");
        (query_id, doc_id, grade.parse().expect("a grade of the embedded file is a number"))
    });
    Qrels::from_judgements(judgements).expect("the embedded file judges nothing twice")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_set_has_the_size_it_says() {
        assert_eq!(corpus().len(), 432);
        assert_eq!(Split::ALL.map(|split| queries(split).len()), [320, 48, 80, 64]);
        assert_eq!(Split::ALL.map(|split| qrels(split).len()), [320, 48, 80, 64]);
        assert_eq!(DATA.queries.len(), 512);
        assert_eq!(sts_pairs().len(), 160);
        let departments = DATA.subjects.iter().map(|subject| &subject.department);
        assert_eq!(departments.collect::<HashSet<_>>().len(), 16);
        let subjects = DATA.subjects.iter().map(|subject| (&subject.department, &subject.topic));
        assert_eq!(subjects.collect::<HashSet<_>>().len(), 96);
    }

    #[test]
    fn every_judged_document_is_in_the_corpus_and_every_query_has_both_grades() {
        let doc_ids: HashSet<&str> = corpus().iter().map(|(doc_id, _)| doc_id.as_str()).collect();
        for split in Split::ALL {
            for (query_id, doc_id, _) in qrels(split).judgements() {
                assert!(doc_ids.contains(doc_id), "{doc_id} of {query_id}");
                assert!(query_id.starts_with(split.name()), "{query_id}");
            }
            for example in examples(split) {
                assert!(!example.positives.is_empty() && !example.negatives.is_empty(), "{}", example.query);
            }
        }
    }

    #[test]
    fn no_query_to_be_tested_is_trained_with() {
        let held_out: HashSet<String> = [Split::Dev, Split::Test, Split::Reranking]
            .into_iter()
            .flat_map(queries)
            .map(|(_, query)| query.content().into_owned())
            .collect();
        assert_eq!(held_out.len(), 192);
        let examples = training_examples();
        assert_eq!(examples.len(), 320);
        assert!(examples.iter().all(|example| !held_out.contains(&example.query)));
        let texts = alignment_texts();
        assert_eq!(texts.len(), 320 + 432);
        assert!(texts.iter().all(|text| !held_out.contains(text)));
    }

    #[test]
    fn a_title_is_answered_by_its_own_text_and_not_by_its_neighbours() {
        let examples = title_examples();
        assert_eq!(examples.len(), 432);
        for (example, (doc_id, document)) in examples.iter().zip(corpus()) {
            assert_eq!((example.query.as_str(), example.positives[0].as_str()), (document.title(), document.text()));
            assert!((3..=4).contains(&example.negatives.len()), "{doc_id}");
            assert!(!example.negatives.contains(&example.positives[0]), "{doc_id}");
        }
    }

    #[test]
    fn the_best_answer_comes_first_with_its_title() {
        let examples = training_examples();
        assert_eq!(examples[0].query, "我妈自己在家量血压138/88，这算高血压吗");
        assert!(examples[0].positives[0].starts_with("在家量血压的方法与判断标准 诊断高血压一般看"));
        for ((query_id, _), example) in queries(Split::Train).iter().zip(&examples) {
            let best = qrels(Split::Train).relevant(query_id).max_by_key(|(_, grade)| *grade).expect("relevant");
            let grade_of_first = corpus()
                .iter()
                .find(|(_, document)| document.content() == example.positives[0])
                .and_then(|(doc_id, _)| qrels(Split::Train).get(query_id)?.get(doc_id));
            assert_eq!(grade_of_first, Some(&best.1), "{query_id}");
        }
    }
}
