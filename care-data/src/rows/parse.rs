//! The forms of a training row, as the tools of the field write them.

use std::collections::BTreeMap;

use care_core::{Document, Text};
use serde::Deserialize;
use serde_json::Value;

use super::example::{RowType, TrainingExample};

/// A line of a file: FlagEmbedding's row, a triplet of sentence-transformers, a row of Tevatron, or a text alone.
#[derive(Deserialize)]
pub(super) struct Row {
    pos_scores: Option<Vec<f32>>,
    neg_scores: Option<Vec<f32>>,
    /// Of sentence-transformers' triplets and n-tuples: the positive's and each negative's.
    scores: Option<Vec<f32>>,
    prompt: Option<String>,
    #[serde(rename = "type")]
    row_type: Option<String>,
    /// The texts, and fields that are not used.
    #[serde(flatten)]
    texts: BTreeMap<String, Value>,
}

const QUERY: [&str; 2] = ["query", "anchor"];
const POSITIVES: [&str; 3] = ["pos", "positive", "positive_passages"];
const NEGATIVES: [&str; 3] = ["neg", "negative", "negative_passages"];
/// `negative_1`, `negative_2` and so on.
const NUMBERED: &str = "negative_";

impl Row {
    /// The row of a table in text, whose empty cells hold nothing.
    pub(super) fn without_blanks(mut self) -> Self {
        self.texts.retain(|_, value| value.as_str() != Some(""));
        self
    }

    /// # Errors
    /// Returns what is wrong with the row, as text.
    pub(super) fn parse(mut self) -> Result<TrainingExample, String> {
        self.texts.retain(|_, value| !value.is_null());
        let (query, positives) = (self.only(&QUERY)?, self.only(&POSITIVES)?);
        let negatives = self.negatives()?;
        let (positive_ids, negative_ids) = (self.ids(&POSITIVES, "pos_id")?, self.ids(&NEGATIVES, "neg_id")?);
        let query_id = self.texts.get("query_id").map(|value| id("query_id", value)).transpose()?;
        let is_plain = query.is_none() && positives.is_none();
        let (query, positives) = match (query, positives, self.texts.get("text")) {
            (Some((field, query)), Some((of_positives, positives)), _) => {
                (text(field, query)?, texts(of_positives, positives)?)
            }
            (None, None, Some(_)) => {
                let text = document("text", &Value::Object(self.texts.clone().into_iter().collect()))?;
                (text.clone(), vec![text])
            }
            (query, ..) => {
                let wanted = if query.is_none() { listed(&QUERY, "or") } else { listed(&POSITIVES, "or") };
                let mut names: Vec<&str> = self.texts.keys().map(String::as_str).collect();
                names.truncate(8);
                let found = if names.is_empty() { "no text".to_owned() } else { listed(&names, "and") };
                return Err(format!("no {wanted}; the row has {found}"));
            }
        };
        let (positive_scores, negative_scores) = match (self.scores, self.pos_scores, self.neg_scores) {
            (None, positive, negative) => (positive.unwrap_or_default(), negative.unwrap_or_default()),
            (Some(mut scores), None, None) => match positives.len() <= scores.len() {
                true => {
                    let negative = scores.split_off(positives.len());
                    (scores, negative)
                }
                false => return Err(format!("`scores` has {} values, too few", scores.len())),
            },
            _ => return Err("`scores` and `pos_scores` or `neg_scores` are both given; keep one of them".into()),
        };
        Ok(TrainingExample {
            query,
            positives,
            negatives,
            positive_scores,
            negative_scores,
            prompt: self.prompt.filter(|prompt| !prompt.is_empty()),
            row_type: RowType::of(self.row_type.as_deref()),
            is_plain,
            query_id,
            positive_ids,
            negative_ids,
        })
    }

    /// The ids of a list of texts: of a list of their own, else of the passages, if all have one.
    fn ids(&self, fields: &[&'static str], list: &str) -> Result<Vec<String>, String> {
        match (self.texts.get(list), self.only(fields)?) {
            (Some(Value::Array(values)), _) => {
                values.iter().enumerate().map(|(index, value)| id(&format!("{list}[{index}]"), value)).collect()
            }
            (Some(value), _) => Ok(vec![id(list, value)?]),
            (None, Some((field, Value::Array(passages)))) => {
                let given: Vec<&Value> = passages.iter().filter_map(|passage| passage.get("docid")).collect();
                if given.len() < passages.len() {
                    return Ok(Vec::new());
                }
                given.into_iter().map(|value| id(&format!("`docid` of {field}"), value)).collect()
            }
            (None, _) => Ok(Vec::new()),
        }
    }

    /// The field that the row has of several that mean the same.
    fn only(&self, names: &[&'static str]) -> Result<Option<(&'static str, &Value)>, String> {
        let mut found = names.iter().filter_map(|name| Some((*name, self.texts.get(*name)?)));
        let field = found.next();
        match (field, found.next()) {
            (Some((one, _)), Some((other, _))) => {
                Err(format!("`{one}` and `{other}` are both given; keep one of them"))
            }
            _ => Ok(field),
        }
    }

    fn negatives(&self) -> Result<Vec<String>, String> {
        let number = |name: &str| name.strip_prefix(NUMBERED).and_then(|number| number.parse::<usize>().ok());
        let fields = self.texts.iter().filter_map(|(name, value)| Some((number(name)?, name, value)));
        let mut numbered: Vec<(usize, &String, &Value)> = fields.collect();
        numbered.sort_by_key(|(number, ..)| *number);
        match (self.only(&NEGATIVES)?, numbered.first()) {
            (Some((field, _)), Some((_, other, _))) => {
                Err(format!("`{field}` and `{other}` are both given; keep one of them"))
            }
            (Some((field, value)), None) => texts(field, value),
            (None, _) => numbered.into_iter().map(|(_, name, value)| text(name, value)).collect(),
        }
    }
}

/// One text, or the texts of a list.
pub(crate) fn texts(field: &str, value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(values) => {
            values.iter().enumerate().map(|(index, value)| text(&format!("{field}[{index}]"), value)).collect()
        }
        value => Ok(vec![text(field, value)?]),
    }
}

/// A string, a number, or an object with `text` and perhaps `title`.
fn text(field: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Object(_) => document(field, value),
        Value::Null => Err(format!("`{field}` is null; a text belongs there")),
        Value::Bool(_) | Value::Array(_) => {
            Err(format!("`{field}` is {value}; a text, a number or an object with `text` belongs there"))
        }
    }
}

/// An id, which some writers store as a number.
fn id(field: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(id) => Ok(id.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("`{field}` is {value}; a string or an integer belongs there")),
    }
}

/// The text of an object with `text` and perhaps `title`, joined as in every corpus.
pub(crate) fn document(field: &str, object: &Value) -> Result<String, String> {
    let part = |name: &str| match object.get(name) {
        Some(Value::Null) | None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("`{name}` of `{field}` is no text")),
    };
    let text = part("text")?.ok_or_else(|| format!("`{field}` is an object without `text`"))?;
    Ok(Document::with_title(part("title")?.unwrap_or_default(), text).content().into_owned())
}

/// Names in backticks, as a list.
fn listed(names: &[&str], last: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((end, [])) => end.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<TrainingExample, String> {
        serde_json::from_str::<Row>(line).map_err(|e| e.to_string())?.parse()
    }

    fn example(line: &str) -> (String, Vec<String>, Vec<String>) {
        let TrainingExample { query, positives, negatives, .. } = parse(line).unwrap_or_else(|e| panic!("{e}"));
        (query, positives, negatives)
    }

    #[test]
    fn the_rows_of_every_tool_are_one_example() {
        let expected = ("q".to_owned(), vec!["p".to_owned()], vec!["n".to_owned(), "m".to_owned()]);
        for line in [
            r#"{"query": "q", "pos": ["p"], "neg": ["n", "m"]}"#,
            r#"{"query": "q", "pos": "p", "neg": ["n", "m"], "pos_scores": null, "prompt": null, "type": null}"#,
            r#"{"anchor": "q", "positive": "p", "negative": ["n", "m"]}"#,
            r#"{"anchor": "q", "positive": "p", "negative_2": "m", "negative_1": "n", "negative_10": null}"#,
            r#"{"query_id": "1", "query": "q", "positive_passages": [{"docid": "7", "title": "", "text": "p"}],
                "negative_passages": [{"docid": "8", "text": "n"}, {"docid": 9, "title": null, "text": "m"}]}"#,
        ] {
            assert_eq!(example(line), expected, "{line}");
        }
        let titled = r#"{"query": "q", "positive_passages": [{"title": "t", "text": "p"}], "negative_passages": []}"#;
        assert_eq!(example(titled), ("q".into(), vec!["t p".into()], vec![]));
    }

    #[test]
    fn ids_and_scores_are_kept_in_every_form() {
        let read = |line: &str| {
            let row = parse(line).unwrap_or_else(|e| panic!("{e}"));
            (row.query_id, row.positive_ids, row.negative_ids, row.positive_scores, row.negative_scores)
        };
        let id = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let passages = r#"{"query_id": 1, "query": "q", "positive_passages": [{"docid": "7", "text": "p"}],
            "negative_passages": [{"docid": 8, "text": "n"}]}"#;
        assert_eq!(read(passages), (Some("1".into()), id(&["7"]), id(&["8"]), vec![], vec![]));
        let row = r#"{"query": "q", "pos": ["p"], "neg": ["n", "m"], "pos_id": ["7"], "neg_id": [8, "9"]}"#;
        assert_eq!(read(row), (None, id(&["7"]), id(&["8", "9"]), vec![], vec![]));
        let tuple = r#"{"anchor": "q", "positive": "p", "negative_1": "n", "negative_2": "m", "scores": [3, 2, 1]}"#;
        assert_eq!(read(tuple), (None, vec![], vec![], vec![3.0], vec![2.0, 1.0]));
        let half = r#"{"query": "q", "positive_passages": [{"docid": 7, "text": "p"}, {"text": "o"}]}"#;
        assert_eq!(read(half).1, Vec::<String>::new());
    }

    #[test]
    fn missing_values_and_numbers_are_read_as_tables_mean_them() {
        for line in [
            r#"{"query": "q", "pos": ["p"], "neg": null}"#,
            r#"{"query": "q", "pos": ["p"], "neg": []}"#,
            r#"{"query": "q", "positive": "p", "negative": null, "pos": null, "negative_1": null}"#,
        ] {
            assert_eq!(example(line), ("q".into(), vec!["p".into()], vec![]), "{line}");
        }
        let numbers = r#"{"query": 12, "pos": [3.50, -4], "neg": 18446744073709551615}"#;
        assert_eq!(
            example(numbers),
            ("12".into(), vec!["3.5".into(), "-4".into()], vec!["18446744073709551615".into()])
        );
    }

    #[test]
    fn a_text_alone_is_its_own_positive() {
        for (line, text) in [
            (r#"{"text": "a"}"#, "a"),
            (r#"{"_id": "1", "title": "t", "text": "a", "metadata": {}}"#, "t a"),
            (r#"{"text": 5, "neg": null}"#, "5"),
        ] {
            let parsed = parse(line).unwrap_or_else(|e| panic!("{e}"));
            assert!(parsed.is_plain);
            assert_eq!((parsed.query.as_str(), &parsed.positives), (text, &vec![text.to_owned()]));
        }
        assert!(!parse(r#"{"query": "q", "pos": "p", "text": "a"}"#).is_ok_and(|parsed| parsed.is_plain));
    }

    #[test]
    fn other_rows_are_refused_by_their_fields() {
        for (line, problem) in [
            (r#"{"question": "q", "answer": "a"}"#, "no `query` or `anchor`; the row has `answer` and `question`"),
            ("{}", "no `query` or `anchor`; the row has no text"),
            (
                r#"{"query": "q", "answer": "a"}"#,
                "no `pos`, `positive` or `positive_passages`; the row has `answer` and `query`",
            ),
            (r#"{"pos": "p", "text": "a"}"#, "no `query` or `anchor`; the row has `pos` and `text`"),
            (r#"{"query": "q", "anchor": "q", "pos": "p"}"#, "`query` and `anchor` are both given; keep one of them"),
            (r#"{"query": "q", "pos": "p", "positive": "p"}"#, "`pos` and `positive` are both given; keep one of them"),
            (
                r#"{"query": "q", "pos": "p", "neg": "n", "negative_3": "n"}"#,
                "`neg` and `negative_3` are both given; keep one of them",
            ),
            (r#"{"query": "q", "pos": [null]}"#, "`pos[0]` is null; a text belongs there"),
            (
                r#"{"query": ["q"], "pos": "p"}"#,
                "`query` is [\"q\"]; a text, a number or an object with `text` belongs there",
            ),
            (
                r#"{"query": "q", "pos": "p", "negative_1": true}"#,
                "`negative_1` is true; a text, a number or an object with `text` belongs there",
            ),
            (
                r#"{"query": "q", "positive_passages": [{"docid": 1}]}"#,
                "`positive_passages[0]` is an object without `text`",
            ),
            (r#"{"query": "q", "pos": [{"text": ["p"]}]}"#, "`text` of `pos[0]` is no text"),
            (
                r#"{"query": "q", "pos": "p", "pos_id": [[1]]}"#,
                "`pos_id[0]` is [1]; a string or an integer belongs there",
            ),
            (
                r#"{"query": "q", "pos": "p", "scores": [1], "neg_scores": []}"#,
                "`scores` and `pos_scores` or `neg_scores` are both given; keep one of them",
            ),
        ] {
            assert_eq!(parse(line).map(|_| ()).expect_err(line), problem);
        }
    }
}
