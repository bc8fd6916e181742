//! A written row as named columns, the same for JSON and Parquet.

use std::ops::Range;
use std::sync::Arc;

use care_core::files::sha256_hex;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::example::{RowType, TrainingExample};
use super::format::RowFormat;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Texts,
    Scores,
    Passages,
}

/// The value of a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
    Scores(Vec<f32>),
    Passages(Vec<Passage>),
}

/// A passage of Tevatron's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Passage {
    pub(super) docid: String,
    pub(super) title: String,
    pub(super) text: String,
}

/// A row: the value of each column that it has, in the order of [`columns`].
pub(super) struct Record {
    pub(super) names: Arc<[(String, Kind)]>,
    pub(super) values: Vec<Option<Value>>,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for ((name, _), value) in self.names.iter().zip(&self.values) {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// The columns of a form.
pub(super) fn columns(format: RowFormat) -> Vec<(String, Kind)> {
    let named = |names: &[(&str, Kind)]| names.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect();
    match format {
        RowFormat::FlagEmbedding => named(&[
            ("query_id", Kind::Text),
            ("query", Kind::Text),
            ("pos", Kind::Texts),
            ("neg", Kind::Texts),
            ("pos_scores", Kind::Scores),
            ("neg_scores", Kind::Scores),
            ("pos_id", Kind::Texts),
            ("neg_id", Kind::Texts),
            ("prompt", Kind::Text),
            ("type", Kind::Text),
        ]),
        RowFormat::Triplet => named(&[
            ("anchor", Kind::Text),
            ("positive", Kind::Text),
            ("negative", Kind::Text),
            ("scores", Kind::Scores),
        ]),
        RowFormat::NTuple(count) => {
            let negatives = (1..=count).map(|number| (format!("negative_{number}"), Kind::Text));
            let texts = ["anchor", "positive"].map(|name| (name.to_owned(), Kind::Text));
            texts.into_iter().chain(negatives).chain([("scores".to_owned(), Kind::Scores)]).collect()
        }
        RowFormat::Tevatron => named(&[
            ("query_id", Kind::Text),
            ("query", Kind::Text),
            ("positive_passages", Kind::Passages),
            ("negative_passages", Kind::Passages),
        ]),
    }
}

/// The written rows of an example.
pub(super) fn records(format: RowFormat, row: &TrainingExample) -> Vec<Vec<Option<Value>>> {
    let scored = !row.positive_scores.is_empty() && row.negative_scores.len() == row.negatives.len();
    let scores = |positive: usize, negatives: Range<usize>| {
        let all = || [row.positive_scores[positive]].into_iter().chain(row.negative_scores[negatives].iter().copied());
        scored.then(|| Value::Scores(all().collect()))
    };
    let text = |text: &String| Some(Value::Text(text.clone()));
    match format {
        RowFormat::FlagEmbedding => {
            let list = |values: &[String]| (!values.is_empty()).then(|| Value::Texts(values.to_vec()));
            let scores = |values: &[f32]| (!values.is_empty()).then(|| Value::Scores(values.to_vec()));
            let row_type = (row.row_type != RowType::Normal).then(|| Value::Text(row.row_type.as_str().to_owned()));
            vec![vec![
                row.query_id.as_ref().and_then(text),
                text(&row.query),
                Some(Value::Texts(row.positives.clone())),
                Some(Value::Texts(row.negatives.clone())),
                scores(&row.positive_scores),
                scores(&row.negative_scores),
                list(&row.positive_ids),
                list(&row.negative_ids),
                row.prompt.as_ref().and_then(text),
                row_type,
            ]]
        }
        RowFormat::Triplet => {
            let pairs = (0..row.positives.len()).flat_map(|p| (0..row.negatives.len()).map(move |n| (p, n)));
            let triplet = |(p, n): (usize, usize)| {
                vec![text(&row.query), text(&row.positives[p]), text(&row.negatives[n]), scores(p, n..n + 1)]
            };
            pairs.map(triplet).collect()
        }
        RowFormat::NTuple(count) if row.negatives.len() < count => Vec::new(),
        RowFormat::NTuple(count) => {
            let tuple = |(p, positive): (usize, &String)| {
                let texts = [&row.query, positive].into_iter().chain(&row.negatives[..count]);
                texts.map(text).chain([scores(p, 0..count)]).collect()
            };
            row.positives.iter().enumerate().map(tuple).collect()
        }
        RowFormat::Tevatron => {
            let query_id = row.query_id.clone().unwrap_or_else(|| made_id(&row.query));
            vec![vec![
                Some(Value::Text(query_id)),
                text(&row.query),
                Some(passages(&row.positives, &row.positive_ids)),
                Some(passages(&row.negatives, &row.negative_ids)),
            ]]
        }
    }
}

fn passages(texts: &[String], ids: &[String]) -> Value {
    let passage = |(at, text): (usize, &String)| Passage {
        docid: ids.get(at).cloned().unwrap_or_else(|| made_id(text)),
        title: String::new(),
        text: text.clone(),
    };
    Value::Passages(texts.iter().enumerate().map(passage).collect())
}

/// An id from a text.
fn made_id(text: &str) -> String {
    let mut id = sha256_hex(text);
    id.truncate(16);
    id
}
