//! From an index on disk to a store: pushed in batches, resumed after a stop, and verified.

use std::collections::HashSet;

use care_core::index::{DiskIndex, Record, VectorFormat};
use care_core::{Embeddings, Error, ErrorKind, Result};
use serde_json::Value;

use crate::store::{StoredRow, VectorStore, digest, rounded};

/// Ids that are named in a [`Verification`].
const NAMED: usize = 5;
/// Ids that are asked for at once.
const IDS: usize = 1000;

/// How an index is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushOptions {
    /// Rows per request, >= 1; by default 256.
    pub batch: usize,
    /// Removes rows that the index does not have; by default they stay.
    pub remove_others: bool,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { batch: 256, remove_others: false }
    }
}

impl PushOptions {
    /// Sets [`PushOptions::batch`].
    #[must_use]
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Sets [`PushOptions::remove_others`].
    #[must_use]
    pub fn with_remove_others(mut self, remove_others: bool) -> Self {
        self.remove_others = remove_others;
        self
    }
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PushReport {
    /// Rows of the index.
    pub rows: usize,
    /// Rows that were written: those that the store had not, or had otherwise.
    pub written: usize,
    /// Rows of the store that the index did not have, and that were removed.
    pub removed: usize,
}

/// Whether a store has the rows of an index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// Rows of the index.
    pub rows: usize,
    /// Rows of the store.
    pub stored: usize,
    /// Rows of the index that the store has not.
    pub missing: usize,
    /// Rows that the store has otherwise: of an older version of the index, or altered on the way.
    pub different: usize,
    /// Rows whose text, metadata and vector were read back and compared number by number.
    pub sampled: usize,
    /// The first ids that are missing or different.
    pub ids: Vec<String>,
}

impl Verification {
    /// Whether the store has every row of the index as the index has it, and no other.
    pub fn is_exact(&self) -> bool {
        self.missing == 0 && self.different == 0 && self.stored == self.rows
    }

    fn note(&mut self, id: &str, is_missing: bool) {
        if is_missing {
            self.missing += 1;
        } else {
            self.different += 1;
        }
        if self.ids.len() < NAMED {
            self.ids.push(id.to_owned());
        }
    }
}

/// Writes the rows of an index into a store. Rows that the store has already are recognised by their [`digest`] and not
/// written again, so a push that stopped is resumed by another one. `progress` is called with the rows that are done.
///
/// # Errors
/// If the store has vectors of another tower or other dimensions, `batch` is 0, the index cannot be read, a vector is out of
/// the range of the store's dtype, or the database does not confirm a batch. What was confirmed stays.
pub fn push(
    index: &DiskIndex,
    store: &mut dyn VectorStore,
    options: &PushOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<PushReport> {
    if options.batch == 0 {
        return Err(Error::setting("batch", 0, "at least 1"));
    }
    check_pair(index, store)?;
    let rows: Vec<usize> = index.rows().collect();
    let mut report = PushReport { rows: rows.len(), ..PushReport::default() };
    for (done, rows) in rows.chunks(options.batch).enumerate() {
        let Batch { records, vectors, digests } = Batch::read(index, rows)?;
        let stored = store.digests(&ids_of(&records))?;
        let missing: Vec<usize> = (0..rows.len()).filter(|at| stored[*at].as_ref() != Some(&digests[*at])).collect();
        if !missing.is_empty() {
            let new: Vec<Record> = missing.iter().map(|at| records[*at].clone()).collect();
            let picked = missing.iter().map(|at| vectors.row(*at).to_vec());
            store.put(&new, &Embeddings::from_rows(index.dim(), picked)?)?;
            report.written += missing.len();
        }
        progress(done * options.batch + rows.len());
    }
    if options.remove_others && store.count()? > rows.len() {
        report.removed = remove_others(index, store)?;
    }
    store.finish()?;
    Ok(report)
}

/// Compares a store with an index: the number of rows, the digest of each row, and of about `sample` rows, evenly spread, the
/// text, the metadata and the vector.
///
/// # Errors
/// If the store has vectors of another tower or other dimensions, the index cannot be read, or the database does not answer.
pub fn verify(index: &DiskIndex, store: &mut dyn VectorStore, sample: usize) -> Result<Verification> {
    check_pair(index, store)?;
    let rows: Vec<usize> = index.rows().collect();
    let mut report = Verification { rows: rows.len(), stored: store.count()?, ..Verification::default() };
    let mut bad = HashSet::new();
    for rows in rows.chunks(IDS) {
        let batch = Batch::read(index, rows)?;
        let stored = store.digests(&ids_of(&batch.records))?;
        for (at, stored) in stored.iter().enumerate() {
            if stored.as_ref() != Some(&batch.digests[at]) {
                report.note(&batch.records[at].id, stored.is_none());
                bad.insert(rows[at]);
            }
        }
    }
    let step = rows.len().div_ceil(sample.max(1)).max(1);
    let sampled: Vec<usize> = rows.iter().copied().step_by(step).take(sample).collect();
    for rows in sampled.chunks(IDS) {
        let batch = Batch::read(index, rows)?;
        let stored = store.get(&ids_of(&batch.records))?;
        for (at, (record, stored)) in batch.records.iter().zip(stored).enumerate() {
            let Some(stored) = stored else { continue };
            let vector = batch.vectors.row(at).to_vec();
            if !bad.contains(&rows[at]) && !is_same(record, &vector, &stored, store.vector_format()) {
                report.note(&record.id, false);
            }
            report.sampled += 1;
        }
    }
    Ok(report)
}

/// Rows of an index.
struct Batch {
    records: Vec<Record>,
    vectors: Embeddings,
    digests: Vec<String>,
}

impl Batch {
    fn read(index: &DiskIndex, rows: &[usize]) -> Result<Self> {
        let records: Vec<Record> = rows.iter().map(|row| index.record(*row)).collect::<Result<_>>()?;
        let vectors = index.vectors(rows)?;
        let digests = records.iter().zip(vectors.as_array().rows());
        let digests = digests.map(|(record, vector)| digest(record, &vector.to_vec())).collect();
        Ok(Self { records, vectors, digests })
    }
}

fn ids_of(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

fn check_pair(index: &DiskIndex, store: &dyn VectorStore) -> Result<()> {
    store.tower().check(store.name(), index.tower())?;
    if store.dim() == index.dim() {
        return Ok(());
    }
    let message = format!("{} has vectors of {} dimensions, the index of {}", store.name(), store.dim(), index.dim());
    Err(Error::new(ErrorKind::Dimension, message))
}

/// Removes what the index does not have. The ids are collected first, since removing changes what follows an id.
fn remove_others(index: &DiskIndex, store: &mut dyn VectorStore) -> Result<usize> {
    let (mut others, mut last): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let ids = store.ids(last.as_deref(), IDS)?;
        let found = index.find_all(&ids)?;
        others.extend(ids.iter().zip(found).filter(|(_, row)| row.is_none()).map(|(id, _)| id.clone()));
        match ids.into_iter().next_back() {
            Some(id) => last = Some(id),
            None => break,
        }
    }
    let mut removed = 0;
    for ids in others.chunks(IDS) {
        removed += store.remove(&ids.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(removed)
}

/// Whether a row came back as it was sent, its vector rounded to the dtype of the store.
fn is_same(record: &Record, vector: &[f32], stored: &StoredRow, format: VectorFormat) -> bool {
    let has_same_fields = record.metadata.len() == stored.record.metadata.len()
        && record
            .metadata
            .iter()
            .all(|(name, value)| stored.record.metadata.get(name).is_some_and(|stored| is_same_value(value, stored)));
    (&record.id, &record.text) == (&stored.record.id, &stored.record.text)
        && has_same_fields
        && vector.len() == stored.vector.len()
        && vector.iter().zip(&stored.vector).all(|(value, stored)| rounded(*value, format) == *stored)
}

/// Whether two values are the same; numbers are compared as f64, since databases write 1e15 as they like.
fn is_same_value(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}
