//! The text of a row that is compared.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::normalise::normalise;
use crate::rows::{document, texts};

/// The fields of a row whose text is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextField {
    /// `query` or `anchor`; of rows without, `text`, with `title` if there is one.
    #[default]
    Auto,
    /// These fields, all of which every row must have. A field is a text, a number, an object with `text` and perhaps
    /// `title`, or a list of these. Rows are duplicates if all texts agree, in order.
    Named(Vec<String>),
}

/// The fields that hold positives, in the forms of training rows.
const POSITIVES: [&str; 3] = ["pos", "positive", "positive_passages"];

/// A row, as far as it is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowText {
    /// The texts, one per line.
    pub(super) text: String,
    /// The same in the form in which they are compared; empty if there is nothing to compare.
    pub(super) form: String,
}

type Row<'a> = BTreeMap<String, &'a RawValue>;

impl TextField {
    /// The text of a line.
    ///
    /// # Errors
    /// Returns what is wrong with the row, as text.
    pub(super) fn read(&self, line: &str) -> Result<RowText, String> {
        let row = parse(line)?;
        let texts = match self {
            Self::Auto => vec![auto(&row)?],
            Self::Named(fields) => {
                let all = |field: &String| {
                    let value = value(&row, field)?.ok_or_else(|| missing(&format!("`{field}`"), &row))?;
                    texts(field, &value)
                };
                fields.iter().map(all).collect::<Result<Vec<_>, _>>()?.concat()
            }
        };
        let forms: Vec<String> = texts.iter().map(|text| normalise(text)).collect();
        let form = if forms.iter().all(String::is_empty) { String::new() } else { forms.join("\n") };
        Ok(RowText { text: texts.join("\n"), form })
    }
}

/// The number of positives of a line; 0 if it has none or is no row.
pub(super) fn positives(line: &str) -> usize {
    let Ok(row) = parse(line) else { return 0 };
    POSITIVES.iter().find_map(|field| value(&row, field).ok().flatten()).map_or(0, |value| match value {
        Value::Array(values) => values.len(),
        _ => 1,
    })
}

fn parse(line: &str) -> Result<Row<'_>, String> {
    serde_json::from_str(line).map_err(|e| care_core::jsonl::describe(&e))
}

fn auto(row: &Row<'_>) -> Result<String, String> {
    for field in ["query", "anchor"] {
        if let Some(value) = value(row, field)? {
            return Ok(texts(field, &value)?.join("\n"));
        }
    }
    let Some(text) = value(row, "text")? else { return Err(missing("`query`, `anchor` or `text`", row)) };
    let title = value(row, "title")?.unwrap_or_default();
    document("text", &Value::Object([("title".to_owned(), title), ("text".to_owned(), text)].into_iter().collect()))
}

/// The value of a field; `None` if it is missing or null.
fn value(row: &Row<'_>, field: &str) -> Result<Option<Value>, String> {
    let Some(raw) = row.get(field) else { return Ok(None) };
    let value: Value = serde_json::from_str(raw.get()).map_err(|e| care_core::jsonl::describe(&e))?;
    Ok((!value.is_null()).then_some(value))
}

fn missing(wanted: &str, row: &Row<'_>) -> String {
    let names: Vec<String> = row.keys().take(8).map(|name| format!("`{name}`")).collect();
    let found = if names.is_empty() { "no field".to_owned() } else { names.join(", ") };
    format!("no {wanted}; the row has {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &TextField, line: &str) -> Result<(String, String), String> {
        field.read(line).map(|row| (row.text, row.form))
    }

    #[test]
    fn the_text_of_every_form_of_row_is_found() {
        for (line, text) in [
            (r#"{"query": "头痛？", "pos": ["a"], "text": "b"}"#, "头痛？"),
            (r#"{"anchor": "头痛", "positive": "a"}"#, "头痛"),
            (r#"{"query": null, "text": "头痛", "title": ""}"#, "头痛"),
            (r#"{"text": "怎么办", "title": "头痛"}"#, "头痛 怎么办"),
            (r#"{"query": 12, "positive_passages": [{"docid": "1", "text": "a"}]}"#, "12"),
        ] {
            assert_eq!(read(&TextField::Auto, line).map(|(text, _)| text).as_deref(), Ok(text), "{line}");
        }
    }

    #[test]
    fn named_fields_are_compared_one_by_one() {
        let fields = TextField::Named(vec!["query".into(), "pos".into()]);
        let form = |line: &str| read(&fields, line).map(|(_, form)| form);
        assert_eq!(
            form(r#"{"query": "头痛？", "pos": ["休息。", {"title": "a", "text": "B"}]}"#),
            Ok("头痛\n休息\nab".into())
        );
        // The border between the texts counts.
        assert_ne!(form(r#"{"query": "头痛", "pos": "休息"}"#), form(r#"{"query": "头", "pos": "痛休息"}"#));
        assert_eq!(form(r#"{"query": "", "pos": ["", " "]}"#), Ok(String::new()));
    }

    #[test]
    fn broken_rows_say_what_is_wrong() {
        let named = TextField::Named(vec!["title".into()]);
        for (field, line, problem) in [
            (&TextField::Auto, r#"{"query": "a""#, "EOF while parsing an object (column 13)"),
            (&TextField::Auto, r#"{"question": "a"}"#, "no `query`, `anchor` or `text`; the row has `question`"),
            (&TextField::Auto, "{}", "no `query`, `anchor` or `text`; the row has no field"),
            (&named, r#"{"text": "a"}"#, "no `title`; the row has `text`"),
            (
                &TextField::Auto,
                r#"{"query": true}"#,
                "`query` is true; a text, a number or an object with `text` belongs there",
            ),
        ] {
            assert_eq!(read(field, line), Err(problem.to_owned()), "{line}");
        }
    }

    #[test]
    fn positives_are_counted_in_every_form() {
        for (line, count) in [
            (r#"{"query": "a", "pos": ["b", "c"]}"#, 2),
            (r#"{"anchor": "a", "positive": "b"}"#, 1),
            (r#"{"query": "a", "positive_passages": [{"text": "b"}]}"#, 1),
            (r#"{"text": "a"}"#, 0),
            ("{", 0),
        ] {
            assert_eq!(positives(line), count, "{line}");
        }
    }
}
