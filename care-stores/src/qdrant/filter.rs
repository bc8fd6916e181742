//! Filters in Qdrant's form.

use std::ops::Bound;

use care_core::index::{Condition, Filter, Scalar};
use care_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

/// A condition of Qdrant that fits the same rows.
///
/// # Errors
/// For ranges of strings, which Qdrant does not have, and for fields that its paths cannot name.
pub(super) fn condition(filter: &Filter) -> Result<Value> {
    let all = |parts: &[Filter]| parts.iter().map(condition).collect::<Result<Vec<_>>>();
    Ok(match filter {
        Filter::And(parts) => json!({ "must": all(parts)? }),
        Filter::Or(parts) if parts.is_empty() => none(),
        Filter::Or(parts) => json!({ "should": all(parts)? }),
        Filter::Not(part) => json!({ "must_not": condition(part)? }),
        Filter::Field(name, condition) => of_field(&key(name)?, name, condition)?,
    })
}

/// Fits no row.
fn none() -> Value {
    json!({ "has_id": [] })
}

/// The path of a field in a payload. Quoted, since a point would begin another level.
fn key(name: &str) -> Result<String> {
    if name.contains(['"', '\\']) {
        return Err(refused(format!("a field whose name has a quotation mark or a backslash: {name:?}")));
    }
    Ok(format!("metadata.\"{name}\""))
}

fn of_field(key: &str, name: &str, condition: &Condition) -> Result<Value> {
    Ok(match condition {
        Condition::Exists => json!({ "must_not": { "is_empty": { "key": key } } }),
        Condition::In(values) => {
            let mut conditions = Vec::new();
            let mut strings = Vec::new();
            for value in values {
                match value {
                    Scalar::String(string) => strings.push(string),
                    Scalar::Bool(value) => conditions.push(json!({ "key": key, "match": { "value": value } })),
                    // `match` takes integers only, and compares them with integers only.
                    Scalar::Number(number) => {
                        conditions.push(json!({ "key": key, "range": { "gte": number, "lte": number } }));
                    }
                }
            }
            if !strings.is_empty() {
                conditions.push(json!({ "key": key, "match": { "any": strings } }));
            }
            if conditions.is_empty() { none() } else { json!({ "should": conditions }) }
        }
        Condition::Range(low, high) => {
            let mut range = Map::new();
            for (bound, included, excluded) in [(low, "gte", "gt"), (high, "lte", "lt")] {
                let (operator, limit) = match bound {
                    Bound::Unbounded => continue,
                    Bound::Included(limit) => (included, limit),
                    Bound::Excluded(limit) => (excluded, limit),
                };
                let Scalar::Number(limit) = limit else { return Err(refused(format!("ranges of strings: `{name}`"))) };
                range.insert(operator.to_owned(), json!(limit));
            }
            if range.is_empty() { none() } else { json!({ "key": key, "range": range }) }
        }
    })
}

fn refused(what: String) -> Error {
    Error::new(ErrorKind::Config, format!("filter: Qdrant does not have {what}"))
}
