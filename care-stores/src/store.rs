//! [`VectorStore`]: what an adapter of a database does.

use std::collections::{BTreeMap, HashSet};

use care_core::files::sha256_hex;
use care_core::index::{DocumentTower, Filter, Record, VectorFormat};
use care_core::{Embeddings, Error, ErrorKind, Result};
use half::f16;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 32;

/// A collection of rows in a database: id, text, metadata and vector; similarity is the dot product.
///
/// A row's id is in the store at most once. A call that returns without an error has taken effect for all later calls.
/// Methods take `&mut self`, since a connection serves one call at a time.
///
/// Scores are those of the stored vectors, up to the rounding of the database. Databases order equal scores each in its own way,
/// so results of two stores are compared by score and not by id.
pub trait VectorStore {
    /// What it is, for messages: `the collection docs at http://localhost:6333`.
    fn name(&self) -> String;

    /// The tower that the vectors are from.
    fn tower(&self) -> &DocumentTower;

    /// Dimensions of a vector.
    fn dim(&self) -> usize;

    /// The dtype of the stored vectors.
    fn vector_format(&self) -> VectorFormat;

    /// Number of rows, counted exactly.
    ///
    /// # Errors
    /// If the database does not answer.
    fn count(&mut self) -> Result<usize>;

    /// Adds rows with their vectors, `[records, dim]`; a row whose id is there is replaced. All or none of them.
    ///
    /// # Errors
    /// As [`check_rows`], and if the database does not confirm that it has them.
    fn put(&mut self, records: &[Record], vectors: &Embeddings) -> Result<()>;

    /// Removes the rows of ids. Returns how many there were.
    ///
    /// # Errors
    /// If the database does not confirm it.
    fn remove(&mut self, ids: &[&str]) -> Result<usize>;

    /// The rows of ids; `None` for an id that is not there.
    ///
    /// # Errors
    /// If the database does not answer, or a row is not as [`VectorStore::put`] writes it.
    fn get(&mut self, ids: &[&str]) -> Result<Vec<Option<StoredRow>>>;

    /// The [`digest`]s that [`VectorStore::put`] stored with the rows of ids.
    ///
    /// # Errors
    /// As [`VectorStore::get`].
    fn digests(&mut self, ids: &[&str]) -> Result<Vec<Option<String>>>;

    /// The `limit` ids that follow one, or the first ones, in an order of the store's own.
    ///
    /// # Errors
    /// As [`VectorStore::get`].
    fn ids(&mut self, after: Option<&str>, limit: usize) -> Result<Vec<String>>;

    /// The best rows of each query, `[queries, dim]`, best first; fewer if fewer fit the filter.
    ///
    /// # Errors
    /// [`ErrorKind::Dimension`] if the queries have other dimensions, [`ErrorKind::NonFinite`] if one is not finite,
    /// [`ErrorKind::Config`] if the database has no such filter, and if it does not answer.
    fn search(&mut self, queries: &Embeddings, search: &StoreSearch) -> Result<Vec<Vec<Found>>>;

    /// Ends a push: builds what makes searches fast, if the store was opened to have it.
    ///
    /// # Errors
    /// If the database refuses.
    fn finish(&mut self) -> Result<()>;
}

/// How a [`VectorStore`] is searched.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoreSearch {
    /// Number of rows per query.
    pub k: usize,
    /// Which rows are considered; by default all.
    pub filter: Option<Filter>,
    /// Whether the database may use its approximate index, which can miss rows; by default it scores every row.
    pub approximate: bool,
}

impl StoreSearch {
    /// The `k` best rows, exactly.
    pub fn new(k: usize) -> Self {
        Self { k, filter: None, approximate: false }
    }

    /// Considers only the rows that fit.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Sets [`StoreSearch::approximate`].
    #[must_use]
    pub fn with_approximate(mut self, approximate: bool) -> Self {
        self.approximate = approximate;
        self
    }
}

/// A row that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The dot product.
    pub score: f32,
    /// Id, text and metadata.
    pub record: Record,
}

/// A row as a store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    /// Id, text and metadata.
    pub record: Record,
    /// The vector, `dim` numbers.
    pub vector: Vec<f32>,
}

/// A hash of a row: of its id, text, metadata and vector in f32, before the store rounds it. Rows with equal digests need
/// not be written again.
pub fn digest(record: &Record, vector: &[f32]) -> String {
    let metadata: BTreeMap<_, _> = record.metadata.iter().collect();
    let row = serde_json::json!([record.id, record.text, metadata]);
    let mut bytes = row.to_string().into_bytes();
    bytes.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
    let mut hex = sha256_hex(bytes);
    hex.truncate(DIGITS);
    hex
}

/// Refuses rows that an index refuses too: databases take some of them and hide them from searches. `format` is the dtype
/// that the vectors are stored in.
///
/// # Errors
/// If vectors and records differ in number, the vectors have other dimensions, one is zero or not finite when it is rounded
/// to `format`, an id is empty or occurs twice, or a field has a type that no filter could ask for.
pub fn check_rows(dim: usize, format: VectorFormat, records: &[Record], vectors: &Embeddings) -> Result<()> {
    check_dim("vectors", dim, vectors)?;
    if records.len() != vectors.len() {
        let message = format!("{} rows have {} vectors", records.len(), vectors.len());
        return Err(Error::new(ErrorKind::Dimension, message));
    }
    let mut ids = HashSet::new();
    for (record, vector) in records.iter().zip(vectors.as_array().rows()) {
        record.check()?;
        if !ids.insert(&record.id) {
            return Err(Error::new(ErrorKind::Config, format!("row {:?}: the id occurs twice", record.id)));
        }
        check_range(&record.id, vector.iter().map(|value| rounded(*value, format)), format)?;
    }
    Ok(())
}

/// A value as a store has it.
pub(crate) fn rounded(value: f32, format: VectorFormat) -> f32 {
    if format == VectorFormat::F16 { f16::from_f32(value).to_f32() } else { value }
}

/// Refuses the vector of a row, [`rounded`] already, if no search would find it.
pub(crate) fn check_range(id: &str, values: impl Iterator<Item = f32> + Clone, format: VectorFormat) -> Result<()> {
    let refused =
        |kind, problem| Err(Error::new(kind, format!("row {id:?}: the vector {problem} in {}", format.as_str())));
    if values.clone().any(|value| !value.is_finite()) {
        return refused(ErrorKind::NonFinite, "is not finite");
    }
    if values.clone().all(|value| value == 0.0) {
        return refused(ErrorKind::Config, "is zero");
    }
    Ok(())
}

/// Refuses queries that cannot be compared with the vectors.
#[cfg(any(feature = "qdrant", feature = "pgvector"))]
pub(crate) fn check_queries(dim: usize, queries: &Embeddings) -> Result<()> {
    check_dim("queries", dim, queries)?;
    match queries.first_not_finite() {
        None => Ok(()),
        Some(row) => Err(Error::new(ErrorKind::NonFinite, format!("the vector of query {row} is not finite"))),
    }
}

pub(crate) fn check_dim(what: &str, dim: usize, vectors: &Embeddings) -> Result<()> {
    if vectors.dim() == dim {
        return Ok(());
    }
    let message = format!("{what} have {} dimensions, the store has {dim}", vectors.dim());
    Err(Error::new(ErrorKind::Dimension, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_every_part_of_a_row_and_not_on_the_order_of_fields() {
        let record = Record::new("a").with_text("t").with_field("x", 1).with_field("y", "2");
        let first = digest(&record, &[1.0, 2.0]);
        assert_eq!(first.len(), DIGITS);
        assert_eq!(
            digest(&Record::new("a").with_text("t").with_field("y", "2").with_field("x", 1), &[1.0, 2.0]),
            first
        );
        for (other, vector) in [
            (Record { id: "b".into(), ..record.clone() }, [1.0, 2.0]),
            (Record { text: None, ..record.clone() }, [1.0, 2.0]),
            (record.clone().with_field("x", 2), [1.0, 2.0]),
            (record.clone(), [1.0, 2.000_000_2]),
        ] {
            assert_ne!(digest(&other, &vector), first);
        }
    }
}
