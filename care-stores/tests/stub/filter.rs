//! Qdrant's conditions, as its documentation describes them.

use serde_json::Value;

/// Whether a point fits a condition or a filter.
pub(super) fn fits(condition: &Value, id: &str, payload: &Value) -> bool {
    let fields = condition.as_object().expect("an object");
    if let Some(ids) = fields.get("has_id") {
        return ids.as_array().expect("a list").iter().any(|one| one == id);
    }
    if let Some(field) = fields.get("is_empty") {
        let value = value_of(&field["key"], payload);
        return value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    }
    if let Some(key) = fields.get("key") {
        return match value_of(key, payload) {
            Value::Array(values) => values.iter().any(|value| fits_value(condition, value)),
            value => fits_value(condition, value),
        };
    }
    let known = ["must", "should", "must_not"];
    assert!(fields.keys().all(|name| known.contains(&name.as_str())), "unknown condition: {condition}");
    let list = |name: &str| match fields.get(name) {
        None => Vec::new(),
        Some(Value::Array(conditions)) => conditions.iter().collect(),
        Some(condition) => vec![condition],
    };
    let fits_one = |condition: &&Value| fits(condition, id, payload);
    list("must").iter().all(fits_one)
        && !list("must_not").iter().any(fits_one)
        && (list("should").is_empty() || list("should").iter().any(fits_one))
}

/// The value at a path `metadata."name"`.
fn value_of<'a>(key: &Value, payload: &'a Value) -> &'a Value {
    let key = key.as_str().expect("a string");
    let name = key.strip_prefix("metadata.\"").and_then(|rest| rest.strip_suffix('"'));
    &payload["metadata"][name.expect("a quoted path")]
}

fn fits_value(condition: &Value, value: &Value) -> bool {
    if let Some(range) = condition.get("range") {
        let limit = |name: &str| range.get(name).map(|limit| limit.as_f64().expect("a number"));
        return value.as_f64().is_some_and(|number| {
            limit("gt").is_none_or(|limit| number > limit)
                && limit("gte").is_none_or(|limit| number >= limit)
                && limit("lt").is_none_or(|limit| number < limit)
                && limit("lte").is_none_or(|limit| number <= limit)
        });
    }
    let wanted = &condition["match"];
    match wanted.get("any") {
        Some(any) => value.is_string() && any.as_array().expect("a list").contains(value),
        None => wanted["value"] == *value,
    }
}
