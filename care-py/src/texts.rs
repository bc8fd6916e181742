//! Python values as queries and documents.

use care_core::{Document, Query};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString, PyTuple};

/// Queries of any iterable of `str`.
pub(crate) fn queries(values: &Bound<'_, PyAny>) -> PyResult<Vec<Query>> {
    each("queries", values, |at, value| match text(value)? {
        Some(text) => Ok(Query::new(text)),
        None => Err(wrong_type(&format!("queries[{at}]"), value, "str")),
    })
}

/// Documents of any iterable of `str`, of tuples of title and text, or of mappings with `text` and, if there is one,
/// `title`; other keys of a mapping are ignored.
pub(crate) fn documents(values: &Bound<'_, PyAny>) -> PyResult<Vec<Document>> {
    each("documents", values, document)
}

/// The values of an iterable that is neither one text nor one mapping.
fn each<T>(
    name: &str,
    values: &Bound<'_, PyAny>,
    convert: impl Fn(usize, &Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    if values.is_instance_of::<PyString>() || values.cast::<PyMapping>().is_ok() {
        return Err(wrong_type(name, values, "a list or another iterable of texts"));
    }
    let mut converted = Vec::with_capacity(values.len().unwrap_or(0));
    for (at, value) in values.try_iter()?.enumerate() {
        converted.push(convert(at, &value?)?);
    }
    Ok(converted)
}

fn document(at: usize, value: &Bound<'_, PyAny>) -> PyResult<Document> {
    if let Some(text) = text(value)? {
        return Ok(Document::new(text));
    }
    let wrong = || {
        let allowed = "str, a tuple (title, text), or a mapping with `text` and, if there is one, `title`";
        wrong_type(&format!("documents[{at}]"), value, allowed)
    };
    if let Ok(pair) = value.cast::<PyTuple>() {
        if pair.len() != 2 {
            return Err(wrong());
        }
        return match (text(&pair.get_item(0)?)?, text(&pair.get_item(1)?)?) {
            (Some(title), Some(text)) => Ok(Document::with_title(title, text)),
            _ => Err(wrong()),
        };
    }
    let mapping = value.cast::<PyMapping>().map_err(|_| wrong())?;
    let field = |name: &str| match mapping.contains(name)? {
        false => Ok(None),
        true => mapping.get_item(name).map(Some),
    };
    let title = match field("title")? {
        Some(title) if !title.is_none() => text(&title)?.ok_or_else(wrong)?,
        _ => String::new(),
    };
    let body = field("text")?.ok_or_else(wrong)?;
    Ok(Document::with_title(title, text(&body)?.ok_or_else(wrong)?))
}

/// A `str`; `None` for every other type.
fn text(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    match value.cast::<PyString>() {
        Ok(text) => text.to_str().map(|text| Some(text.to_owned())),
        Err(_) => Ok(None),
    }
}

fn wrong_type(name: &str, value: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    match value.get_type().name() {
        Ok(found) => PyTypeError::new_err(format!("{name} is {found}, allowed: {allowed}")),
        Err(e) => e,
    }
}
