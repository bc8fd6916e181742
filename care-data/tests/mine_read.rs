//! Reading what is mined for, with every kind of bad input.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;

use care_core::Result;
use care_data::mine::{
    Bm25Source, Documents, Ids, Lacking, Mix, Plan, Queries, Ranks, Source, mine, read_corpus, read_judged,
    read_positives, read_rows,
};
use care_data::rows::TrainingExample;

/// A folder with files, and what is read of them.
struct Place {
    folder: tempfile::TempDir,
    documents: Documents,
    queries: Queries,
    ids: Ids,
    problems: Vec<String>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let documents = Documents::new(folder.path(), Plan::default().rules.near).unwrap();
        let queries = Queries::new(folder.path()).unwrap();
        Self { folder, documents, queries, ids: Ids::default(), problems: Vec::new() }
    }

    fn file(&self, name: &str, lines: &[&str]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    }

    fn problem(&self, error: &care_core::Error) -> String {
        error.to_string().replace(&self.folder.path().display().to_string(), "F")
    }

    fn corpus(&mut self, lines: &[&str]) {
        let path = self.file("corpus.jsonl", lines);
        let mut errors = Vec::new();
        read_corpus(path, &mut self.documents, &mut self.ids, &mut |error| {
            errors.push(error);
            Ok(())
        })
        .unwrap();
        self.problems.extend(errors.iter().map(|error| self.problem(error)).collect::<Vec<_>>());
    }

    fn rows(&mut self, lines: &[&str], lacking: Lacking) {
        let path = self.file("train.jsonl", lines);
        let mut errors = Vec::new();
        read_rows(path, &mut self.documents, &mut self.queries, lacking, &mut |error| {
            errors.push(error);
            Ok(())
        })
        .unwrap();
        self.problems.extend(errors.iter().map(|error| self.problem(error)).collect::<Vec<_>>());
    }

    /// The rows mined by BM25 from ranks 0 to 100.
    fn mined(&self) -> Vec<TrainingExample> {
        let source = Bm25Source::new(&self.documents).unwrap();
        let mut plan = Plan::default();
        (plan.rules.ranks, plan.mix) = (Ranks { skip: 0, through: 100 }, Mix::Fused);
        let mut rows = Vec::new();
        let sources: [&dyn Source; 1] = [&source];
        mine(&self.queries, &self.documents, &sources, &plan, &mut |mined| {
            rows.push(mined.example(&self.documents, &self.queries)?);
            Ok(())
        })
        .unwrap();
        rows
    }
}

#[test]
fn bad_rows_are_named_and_the_others_mined() {
    let mut place = Place::new();
    let long = format!(r#"{{"_id": "long", "text": "{}"}}"#, "药".repeat(100_000));
    place.corpus(&[
        r#"{"_id": "a", "text": "头痛怎么办"}"#,
        r#"{"_id": 2, "title": "头痛", "text": " 多休息 "}"#,
        r#"{"_id": "a", "text": "咳嗽"}"#,
        r#"{"_id": "e", "text": " "}"#,
        r#"{"_id": ["x"], "text": "咳嗽"}"#,
        r#"{"_id": "b", "text": "#,
        "",
        &long,
    ]);
    place.rows(
        &[
            r#"{"query": "头痛", "pos": ["头痛怎么办"], "neg": ["旧的"], "prompt": "查找", "type": "symmetric_sts"}"#,
            r#"{"query": "头痛", "pos": []}"#,
            r#"{"query": "头痛", "pos": ["头痛怎么办"], "neg": ["咳", "头痛怎么办"]}"#,
            r#"{"query": "", "pos": ["头痛怎么办"]}"#,
            r#"{"query": "头痛", "pos": ["头痛怎么办", "别处"]}"#,
            r#"{"text": "头痛"}"#,
            r#"{"query": "头痛""#,
            r#"{"query_id": "7", "query": "头痛怎么", "pos": ["头痛怎么办"]}"#,
            r#"{"query_id": "7", "query": "头痛怎么", "pos": ["头痛 多休息"]}"#,
        ],
        Lacking::Refuse,
    );
    let expected = [
        "F/corpus.jsonl:3: duplicate `_id` \"a\", first on line 1",
        "F/corpus.jsonl:4: `text` is empty",
        "F/corpus.jsonl:5: `_id` is [\"x\"], allowed: a string or an integer",
        "F/corpus.jsonl:6: EOF while parsing a value (column 21)",
        "F/train.jsonl:2: `pos` is empty",
        "F/train.jsonl:3: `neg[1]` is one of `pos`",
        "F/train.jsonl:4: `query` is empty",
        "F/train.jsonl:5: `pos[1]` is not in the corpus",
        "F/train.jsonl:6: a text alone; mining needs `query` and `pos`",
        "F/train.jsonl:7: EOF while parsing an object (column 18)",
        "F/train.jsonl:9: duplicate `query_id` \"7\", first on line 8; put its positives into one row",
    ];
    assert_eq!(place.problems, expected);
    let rows = place.mined();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].negatives.as_slice(), rows[0].negative_ids.as_slice()),
        (&["头痛  多休息".into()][..], &["2".into()][..])
    );
    assert_eq!((rows[0].prompt.as_deref(), rows[0].row_type.as_str()), (Some("查找"), "symmetric_sts"));
    assert_eq!((rows[0].positive_scores.len(), rows[0].negative_scores.len()), (1, 1));
    // The negative is shorter.
    assert!(rows[0].positive_scores[0] < rows[0].negative_scores[0]);
    assert_eq!((rows[1].query_id.as_deref(), rows[1].positive_ids.as_slice()), (Some("7"), &["a".into()][..]));
}

#[test]
fn the_first_bad_row_stops_where_it_is_asked_to() {
    let mut place = Place::new();
    place.corpus(&[r#"{"text": "头痛怎么办"}"#]);
    let path = place.file("train.jsonl", &[r#"{"query": "头痛", "pos": ["咳嗽"]}"#]);
    let stop = &mut |error| -> Result<()> { Err(error) };
    let error = read_rows(path, &mut place.documents, &mut place.queries, Lacking::Refuse, stop).unwrap_err();
    assert_eq!(place.problem(&error), "F/train.jsonl:1: `pos[0]` is not in the corpus");
}

#[test]
fn without_a_corpus_the_distinct_positives_are_candidates() {
    let mut place = Place::new();
    let lines = [
        r#"{"query": "头痛", "pos": ["头痛怎么办", "头痛吃药"]}"#,
        r#"{"query": "头痛吃什么", "pos": ["头痛吃药"]}"#,
        r#"{"query": "咳嗽", "pos": ["头痛咳嗽 "]}"#,
    ];
    read_positives(place.file("train.jsonl", &lines), &mut place.documents).unwrap();
    assert_eq!(place.documents.corpus(), 3);
    place.rows(&lines, Lacking::Refuse);
    assert!(place.problems.is_empty(), "{:?}", place.problems);
    let negatives: Vec<_> = place.mined().into_iter().map(|row| row.negatives).collect();
    assert_eq!(negatives, [vec!["头痛咳嗽"], vec!["头痛咳嗽", "头痛怎么办"], vec![]]);
}

#[test]
fn positives_that_the_corpus_lacks_are_scored_on_request() {
    let mut place = Place::new();
    place.corpus(&[r#"{"_id": "1", "text": "头痛吃药"}"#]);
    place.rows(
        &[r#"{"query": "头痛怎么办", "pos": ["头痛多休息"]}"#, r#"{"query": "头痛", "pos": ["头痛吃药"]}"#],
        Lacking::Score,
    );
    let rows = place.mined();
    assert_eq!(rows[0].negatives, ["头痛吃药"]);
    assert!(rows[0].positive_scores[0] > 0.0);
    assert!(rows[0].positive_ids.is_empty());
    assert!(rows[1].negatives.is_empty());
}

#[test]
fn judged_queries_are_found_by_id() {
    let mut place = Place::new();
    place.corpus(&[r#"{"_id": "d1", "text": "头痛吃药"}"#, r#"{"_id": "d2", "text": "头痛休息"}"#]);
    let lines = [
        r#"{"_id": "q1", "text": "头痛", "instruction": "请回答"}"#,
        r#"{"_id": "q2", "text": "没有答案"}"#,
        r#"{"_id": "q3", "text": "头痛"}"#,
        r#"{"_id": "q1", "text": "头痛"}"#,
        r#"{"_id": "q4", "text": ""}"#,
    ];
    let path = place.file("queries.jsonl", &lines);
    let judged = [("q1", "d1"), ("q3", "d9"), ("q4", "d1")];
    let judged: HashMap<_, _> = judged.into_iter().map(|(q, d)| (q.to_owned(), vec![d.to_owned()])).collect();
    let mut problems = Vec::new();
    let unjudged = read_judged(path, &judged, &place.ids, &mut place.queries, &mut |error| {
        problems.push(error.to_string());
        Ok(())
    });
    assert_eq!(unjudged.unwrap(), 1);
    let ends = [
        "queries.jsonl:3: the positive \"d9\" of query \"q3\" is not in the corpus",
        "queries.jsonl:4: duplicate `_id` \"q1\", first on line 1",
        "queries.jsonl:5: `text` is empty",
    ];
    assert!(problems.iter().zip(ends).all(|(problem, end)| problem.ends_with(end)), "{problems:?}");
    let rows = place.mined();
    assert_eq!((rows.len(), rows[0].query.as_str()), (1, "头痛 请回答"));
    assert_eq!((rows[0].query_id.as_deref(), rows[0].negative_ids.as_slice()), (Some("q1"), &["d2".into()][..]));
}
