//! SQL for pgvector: definitions, filters, and what PostgreSQL does not take.

use std::ops::Bound;

use care_core::index::{Condition, Filter, Record, Scalar, VectorFormat};
use care_core::{Error, ErrorKind, Result};
use postgres::types::ToSql;

/// Most dimensions of a column.
const DIMENSIONS: usize = 16_000;
/// Longest name of a table: an index's name is longer, and PostgreSQL cuts names at 63 bytes.
const LONGEST_NAME: usize = 50;

pub(super) fn column_type(format: VectorFormat) -> &'static str {
    if format == VectorFormat::F16 { "halfvec" } else { "vector" }
}

/// The dimensions and dtype of a column's type: `halfvec(768)`.
pub(super) fn dim_and_format(column: &str) -> Option<(usize, VectorFormat)> {
    let (kind, dim) = column.strip_suffix(')')?.split_once('(')?;
    // A type outside the search path has the name of its schema.
    let format = match kind.rsplit('.').next()? {
        "vector" => VectorFormat::F32,
        "halfvec" => VectorFormat::F16,
        _ => return None,
    };
    Some((dim.parse().ok()?, format))
}

/// Refuses names that would need quotation marks.
pub(super) fn check_table(table: &str) -> Result<()> {
    let is_name = |name: &str| {
        (1..=LONGEST_NAME).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let parts: Vec<&str> = table.split('.').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_name(part)) {
        return Ok(());
    }
    let allowed = format!("NAME or SCHEMA.NAME of lower-case letters, digits and `_`, each of at most {LONGEST_NAME}");
    Err(Error::setting("table", format!("{table:?}"), &allowed))
}

/// Refuses more dimensions than a column or an index takes.
pub(super) fn check_dim(dim: usize, format: VectorFormat, hnsw: bool) -> Result<()> {
    let (kind, indexed) = (column_type(format), if format == VectorFormat::F16 { 4000 } else { 2000 });
    if hnsw && dim > indexed {
        let message = format!("an index of {kind} takes at most {indexed} dimensions, not {dim}; halfvec takes 4000");
        return Err(Error::new(ErrorKind::Dimension, message));
    }
    if dim > DIMENSIONS {
        let message = format!("a column of {kind} takes at most {DIMENSIONS} dimensions, not {dim}");
        return Err(Error::new(ErrorKind::Dimension, message));
    }
    Ok(())
}

/// Refuses the character NUL, which no text of PostgreSQL has.
pub(super) fn check_text(record: &Record) -> Result<()> {
    let metadata = record.metadata.iter().flat_map(|(name, value)| {
        let strings = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        std::iter::once(name.as_str()).chain(strings.iter().filter_map(|value| value.as_str()))
    });
    let mut texts = metadata.chain([record.id.as_str(), record.text.as_deref().unwrap_or_default()]);
    if texts.any(|text| text.contains('\0')) {
        let message = format!("row {:?} has the character NUL, which PostgreSQL does not store", record.id);
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(())
}

/// The ids that a table can have.
pub(super) fn without_nul<'a>(ids: &[&'a str]) -> Vec<&'a str> {
    ids.iter().copied().filter(|id| !id.contains('\0')).collect()
}

pub(super) fn create_table(table: &str, format: VectorFormat, dim: usize) -> String {
    // Ids are equal if their bytes are, and in the order of their bytes.
    format!(
        "CREATE TABLE {table} (id text COLLATE \"C\" PRIMARY KEY, text text, metadata jsonb NOT NULL, \
         digest text NOT NULL, embedding {}({dim}) NOT NULL)",
        column_type(format)
    )
}

pub(super) fn create_index(table: &str, format: VectorFormat) -> String {
    let (name, kind) = (table.rsplit('.').next().unwrap_or(table), column_type(format));
    format!("CREATE INDEX IF NOT EXISTS {name}_embedding ON {table} USING hnsw (embedding {kind}_ip_ops)")
}

/// A condition of SQL and its parameters.
#[derive(Default)]
pub(super) struct Where(Vec<Box<dyn ToSql + Sync>>);

impl Where {
    /// Number of parameters.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect()
    }

    /// A condition on `metadata` that fits the same rows as a filter. It is never NULL.
    pub(super) fn sql(&mut self, filter: &Filter) -> String {
        match filter {
            Filter::And(parts) => self.joined(parts, " AND ", "true"),
            Filter::Or(parts) => self.joined(parts, " OR ", "false"),
            Filter::Not(part) => format!("NOT {}", self.sql(part)),
            Filter::Field(name, condition) => {
                let before = self.0.len();
                let field = format!("metadata -> {}::text", self.parameter(name.clone()));
                let condition = match condition {
                    Condition::Exists => format!("({field}) NOT IN ('null'::jsonb, '[]'::jsonb)"),
                    Condition::In(values) => self.is_in(&field, values),
                    Condition::Range(low, high) => self.is_between(&field, low, high),
                };
                if condition == "false" {
                    // PostgreSQL refuses parameters that no part of a statement uses.
                    self.0.truncate(before);
                    return condition;
                }
                format!("coalesce({condition}, false)")
            }
        }
    }

    fn joined(&mut self, parts: &[Filter], operator: &str, empty: &str) -> String {
        let parts: Vec<String> = parts.iter().map(|part| self.sql(part)).collect();
        if parts.is_empty() { empty.to_owned() } else { format!("({})", parts.join(operator)) }
    }

    fn is_in(&mut self, field: &str, values: &[Scalar]) -> String {
        let (mut strings, mut numbers, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
        for value in values {
            match value {
                Scalar::String(string) if string.contains('\0') => {}
                Scalar::String(string) => strings.push(string.clone()),
                Scalar::Number(number) => numbers.push(*number),
                Scalar::Bool(value) => conditions.push(format!("({field}) = '{value}'::jsonb")),
            }
        }
        if !strings.is_empty() {
            // Fits a string, and a list that has one of them.
            conditions.push(format!("({field}) ?| {}::text[]", self.parameter(strings)));
        }
        if !numbers.is_empty() {
            conditions.push(format!("{} = ANY({}::float8[])", number(field), self.parameter(numbers)));
        }
        if conditions.is_empty() { "false".to_owned() } else { format!("({})", conditions.join(" OR ")) }
    }

    fn is_between(&mut self, field: &str, low: &Bound<Scalar>, high: &Bound<Scalar>) -> String {
        let mut conditions = Vec::new();
        let mut of_strings = false;
        for (bound, included, excluded) in [(low, ">=", ">"), (high, "<=", "<")] {
            let (operator, limit) = match bound {
                Bound::Unbounded => continue,
                Bound::Included(limit) => (included, limit),
                Bound::Excluded(limit) => (excluded, limit),
            };
            let limit = match limit {
                Scalar::Bool(_) => return "false".to_owned(),
                Scalar::Number(number) => format!("{}::float8", self.parameter(*number)),
                Scalar::String(string) => {
                    of_strings = true;
                    format!("{}::text", self.parameter(string.clone()))
                }
            };
            conditions.push(format!("value {operator} {limit}"));
        }
        if conditions.is_empty() {
            return "false".to_owned();
        }
        let conditions = conditions.join(" AND ");
        if of_strings {
            format!("EXISTS (SELECT FROM (SELECT {STRINGS} FROM {}) AS strings WHERE {conditions})", strings(field))
        } else {
            format!("(SELECT {conditions} FROM (SELECT {} AS value) AS numbers)", number(field))
        }
    }

    /// Adds a parameter and returns its place.
    fn parameter(&mut self, value: impl ToSql + Sync + 'static) -> String {
        self.0.push(Box::new(value));
        format!("${}", self.0.len())
    }
}

/// Strings, ordered by code point.
const STRINGS: &str = "text COLLATE \"C\" AS value";

/// The strings of a field, as a table of one column `text`.
fn strings(field: &str) -> String {
    format!(
        "jsonb_array_elements_text(CASE jsonb_typeof({field}) WHEN 'array' THEN {field} \
         WHEN 'string' THEN jsonb_build_array({field}) ELSE '[]' END) AS elements (text)"
    )
}

/// The number in a field, or NULL.
fn number(field: &str) -> String {
    format!("CASE jsonb_typeof({field}) WHEN 'number' THEN ({field})::float8 END")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_types_read() {
        for name in ["docs", "medicine.docs_2", "_a"] {
            check_table(name).expect(name);
        }
        for name in ["", "Docs", "1a", "a b", "a;drop table b", "a.b.c", "a.", "\"a\"", &"a".repeat(51)] {
            assert!(check_table(name).is_err(), "{name}");
        }
        assert_eq!(dim_and_format("vector(768)"), Some((768, VectorFormat::F32)));
        assert_eq!(dim_and_format("ext.halfvec(4)"), Some((4, VectorFormat::F16)));
        assert_eq!(dim_and_format("vector"), None);
        assert_eq!(dim_and_format("real[]"), None);
    }

    #[test]
    fn a_condition_that_nothing_fits_leaves_no_parameter() {
        let none = r#"{"tags": {"$in": []}}"#.parse::<Filter>().expect("a filter");
        let bounds = (Bound::Included(Scalar::Number(1.0)), Bound::Excluded(Scalar::Bool(true)));
        let mixed = Filter::Field("open".to_owned(), Condition::Range(bounds.0, bounds.1));
        for filter in [none, mixed] {
            let mut conditions = Where::default();
            assert_eq!((conditions.sql(&filter).as_str(), conditions.len()), ("false", 0), "{filter}");
        }
    }

    #[test]
    fn an_index_has_fewer_dimensions_than_a_column() {
        let message = |dim, format, hnsw| check_dim(dim, format, hnsw).expect_err("too many").to_string();
        check_dim(2000, VectorFormat::F32, true).expect("fits");
        check_dim(16_000, VectorFormat::F32, false).expect("fits");
        let advice = "an index of vector takes at most 2000 dimensions, not 2001; halfvec takes 4000";
        assert_eq!(message(2001, VectorFormat::F32, true), advice);
        assert!(message(4001, VectorFormat::F16, true).contains("at most 4000"));
        assert!(message(16_001, VectorFormat::F16, false).contains("at most 16000"));
    }
}
