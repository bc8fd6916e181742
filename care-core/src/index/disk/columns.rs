//! The metadata of a segment by field, laid out for filters.
//!
//! A column has the values of one field and one type: `terms` (strings and booleans) as codes into a dictionary, or
//! `numbers`. Both list the rows that have a value, ascending; a row with a list of strings is listed once per string.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checked_file::{CheckedFile, CheckedWriter};
use super::filter::{Filter, Matcher};
use super::record::Record;
use super::row_set::RowSet;
use crate::error::{Error, Result};

/// Entries of a column in memory at once.
const CHUNK: usize = 1 << 16;
/// Bytes in front of a string of a dictionary: its kind and its length.
const TERM_HEADER: usize = 5;

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ColumnKind {
    Terms,
    Numbers,
}

/// Where a column is in the file of columns: `count` row numbers (u32), then as many codes (u32) or numbers (f64), then
/// the dictionary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub(super) field: String,
    pub(super) kind: ColumnKind,
    offset: u64,
    pub(super) count: u64,
    /// Bytes of the dictionary.
    #[serde(default)]
    dictionary: u64,
}

/// Collects the metadata of rows.
#[derive(Default)]
pub(super) struct ColumnsBuilder {
    fields: BTreeMap<String, Field>,
}

#[derive(Default)]
struct Field {
    terms: HashMap<Term, u32>,
    codes: Vec<(u32, u32)>,
    numbers: Vec<(u32, f64)>,
}

#[derive(PartialEq, Eq, Hash)]
enum Term {
    String(String),
    Bool(bool),
}

impl ColumnsBuilder {
    /// Adds a row; rows come in ascending order.
    pub(super) fn add(&mut self, row: u32, record: &Record) {
        for (name, value) in &record.metadata {
            if value.is_null() {
                continue;
            }
            if !self.fields.contains_key(name) {
                self.fields.insert(name.clone(), Field::default());
            }
            if let Some(field) = self.fields.get_mut(name) {
                field.add(row, value);
            }
        }
    }

    /// Writes all columns. Returns where each is.
    pub(super) fn write<W: Write>(self, out: &mut CheckedWriter<W>) -> io::Result<Vec<Column>> {
        let mut columns = Vec::new();
        for (name, field) in self.fields {
            let column = |kind, offset, count: usize, dictionary| {
                let field = name.clone();
                Column { field, kind, offset, count: count as u64, dictionary }
            };
            if !field.numbers.is_empty() {
                columns.push(column(ColumnKind::Numbers, out.position(), field.numbers.len(), 0));
                field.numbers.iter().try_for_each(|(row, _)| out.write_all(&row.to_le_bytes()))?;
                field.numbers.iter().try_for_each(|(_, number)| out.write_all(&number.to_le_bytes()))?;
            }
            if !field.codes.is_empty() {
                let dictionary = dictionary(&field.terms);
                columns.push(column(ColumnKind::Terms, out.position(), field.codes.len(), dictionary.len() as u64));
                field.codes.iter().try_for_each(|(row, _)| out.write_all(&row.to_le_bytes()))?;
                field.codes.iter().try_for_each(|(_, code)| out.write_all(&code.to_le_bytes()))?;
                out.write_all(&dictionary)?;
            }
        }
        Ok(columns)
    }
}

impl Field {
    fn add(&mut self, row: u32, value: &Value) {
        match value {
            Value::Number(number) => self.numbers.extend(number.as_f64().map(|number| (row, number))),
            Value::Bool(value) => self.add_term(row, Term::Bool(*value)),
            Value::String(value) => self.add_term(row, Term::String(value.clone())),
            Value::Array(values) => {
                values.iter().filter_map(Value::as_str).for_each(|s| self.add_term(row, Term::String(s.to_owned())));
            }
            // Refused by `Record::check`.
            Value::Null | Value::Object(_) => {}
        }
    }

    fn add_term(&mut self, row: u32, term: Term) {
        let next = self.terms.len() as u32;
        self.codes.push((row, *self.terms.entry(term).or_insert(next)));
    }
}

/// The terms in the order of their codes: a kind (0 for a string, 1 and 2 for false and true), the length of the string as
/// u32, and the string.
fn dictionary(terms: &HashMap<Term, u32>) -> Vec<u8> {
    let mut ordered: Vec<(&Term, &u32)> = terms.iter().collect();
    ordered.sort_unstable_by_key(|(_, code)| **code);
    let mut bytes = Vec::new();
    for (term, _) in ordered {
        let (kind, string) = match term {
            Term::String(string) => (0, string.as_str()),
            Term::Bool(value) => (1 + u8::from(*value), ""),
        };
        bytes.push(kind);
        bytes.extend((string.len() as u32).to_le_bytes());
        bytes.extend(string.as_bytes());
    }
    bytes
}

/// The rows of a segment that fit a filter.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub(super) fn select(filter: &Filter, rows: usize, columns: &[Column], file: &CheckedFile) -> Result<RowSet> {
    let of = |filter| select(filter, rows, columns, file);
    match filter {
        Filter::And(parts) => parts.iter().try_fold(RowSet::all(rows), |mut all, part| {
            all.intersect(&of(part)?);
            Ok(all)
        }),
        Filter::Or(parts) => parts.iter().try_fold(RowSet::empty(rows), |mut any, part| {
            any.unite(&of(part)?);
            Ok(any)
        }),
        Filter::Not(part) => Ok(of(part)?.complement()),
        Filter::Field(name, condition) => {
            let (matcher, mut found) = (condition.matcher(), RowSet::empty(rows));
            for column in columns.iter().filter(|column| column.field == *name) {
                column.select(&matcher, rows, file, &mut found)?;
            }
            Ok(found)
        }
    }
}

impl Column {
    /// Adds the rows with a value that fits.
    fn select(&self, matcher: &Matcher<'_>, rows: usize, file: &CheckedFile, found: &mut RowSet) -> Result<()> {
        let values = self.offset + 4 * self.count;
        match self.kind {
            ColumnKind::Numbers if matcher.fits_no_number() => Ok(()),
            ColumnKind::Numbers => self.scan(
                rows,
                file,
                |start, count, fits| {
                    let bytes = file.bytes(values + 8 * start, 8 * count)?;
                    fits.extend(
                        bytes.as_chunks().0.iter().map(|value| matcher.fits_number(f64::from_le_bytes(*value))),
                    );
                    Ok(())
                },
                found,
            ),
            ColumnKind::Terms => {
                let terms = self.fitting_terms(matcher, file)?;
                if !terms.contains(&true) {
                    return Ok(());
                }
                self.scan(
                    rows,
                    file,
                    |start, count, fits| {
                        let bytes = file.bytes(values + 4 * start, 4 * count)?;
                        let fit =
                            |code: &[u8; 4]| terms.get(u32::from_le_bytes(*code) as usize).copied().unwrap_or(false);
                        fits.extend(bytes.as_chunks().0.iter().map(fit));
                        Ok(())
                    },
                    found,
                )
            }
        }
    }

    /// Whether each term of the dictionary fits.
    fn fitting_terms(&self, matcher: &Matcher<'_>, file: &CheckedFile) -> Result<Vec<bool>> {
        let bytes = file.bytes(self.offset + 8 * self.count, self.dictionary as usize)?;
        let (mut rest, mut fits) = (bytes.as_slice(), Vec::new());
        while let Some((header, after)) = rest.split_first_chunk::<TERM_HEADER>() {
            let [kind, length @ ..] = *header;
            let string = after.split_at_checked(u32::from_le_bytes(length) as usize);
            let string = string.and_then(|(string, after)| Some((std::str::from_utf8(string).ok()?, after)));
            let Some((string, after)) = string else {
                return Err(Error::format(file.path(), format!("the dictionary of `{}` is cut off", self.field)));
            };
            fits.push(match kind {
                0 => matcher.fits_str(string),
                _ => matcher.fits_bool(kind == 2),
            });
            rest = after;
        }
        Ok(fits)
    }

    /// Reads the column chunk by chunk; `fits` appends for each entry whether it fits.
    fn scan(
        &self,
        rows: usize,
        file: &CheckedFile,
        fits: impl Fn(u64, usize, &mut Vec<bool>) -> Result<()>,
        found: &mut RowSet,
    ) -> Result<()> {
        let mut fitting = Vec::with_capacity(CHUNK);
        for start in (0..self.count).step_by(CHUNK) {
            let count = (self.count - start).min(CHUNK as u64) as usize;
            fitting.clear();
            fits(start, count, &mut fitting)?;
            let numbers = file.bytes(self.offset + 4 * start, 4 * count)?;
            let numbers = numbers.as_chunks().0;
            // Row numbers ascend.
            if numbers.last().is_some_and(|row| u32::from_le_bytes(*row) as usize >= rows) {
                let problem = format!("the column `{}` has a row that the segment lacks", self.field);
                return Err(Error::format(file.path(), problem));
            }
            for (row, fits) in numbers.iter().zip(&fitting) {
                found.insert_if(u32::from_le_bytes(*row) as usize, *fits);
            }
        }
        Ok(())
    }
}
