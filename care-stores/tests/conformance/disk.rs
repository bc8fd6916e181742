//! The index on disk as a store: what the others are compared with passes the same test.

use std::path::Path;

use care_core::index::{
    Codes, DiskIndex, DiskIndexOptions, DocumentTower, IndexWriter, Record, SearchOptions, VectorFormat,
};
use care_core::{Embeddings, Error, ErrorKind, Result};
use care_stores::{Found, StoreSearch, StoredRow, VectorStore, check_rows, digest};

/// An index in a folder, with int8 codes for its approximate searches.
pub(crate) struct DiskStore(IndexWriter);

impl DiskStore {
    pub(crate) fn open(folder: &Path, tower: &DocumentTower, dim: usize, format: VectorFormat) -> Result<Self> {
        if !folder.exists() {
            let options = DiskIndexOptions::default().with_vectors(format).with_codes([Codes::Int8]);
            return Ok(Self(IndexWriter::create(folder, tower, dim, &options)?));
        }
        let writer = IndexWriter::open(folder)?;
        writer.index().check_tower(tower)?;
        if (writer.index().dim(), writer.index().vector_format()) != (dim, format) {
            return Err(Error::new(ErrorKind::Dimension, "the index has vectors of another kind"));
        }
        Ok(Self(writer))
    }

    fn index(&self) -> &DiskIndex {
        self.0.index()
    }
}

impl VectorStore for DiskStore {
    fn name(&self) -> String {
        format!("the index {}", self.index().folder().display())
    }

    fn tower(&self) -> &DocumentTower {
        self.index().tower()
    }

    fn dim(&self) -> usize {
        self.index().dim()
    }

    fn vector_format(&self) -> VectorFormat {
        self.index().vector_format()
    }

    fn count(&mut self) -> Result<usize> {
        Ok(self.index().len())
    }

    fn put(&mut self, records: &[Record], vectors: &Embeddings) -> Result<()> {
        check_rows(self.dim(), self.vector_format(), records, vectors)?;
        let tower = self.tower().clone();
        self.0.add(&tower, records, vectors).map(|_| ())
    }

    fn remove(&mut self, ids: &[&str]) -> Result<usize> {
        self.0.remove(ids)
    }

    fn get(&mut self, ids: &[&str]) -> Result<Vec<Option<StoredRow>>> {
        let index = self.index();
        let row =
            |row: usize| Ok(StoredRow { record: index.record(row)?, vector: index.vectors(&[row])?.row(0).to_vec() });
        index.find_all(ids)?.into_iter().map(|found| found.map(row).transpose()).collect()
    }

    /// All test vectors are the same in 16 bits.
    fn digests(&mut self, ids: &[&str]) -> Result<Vec<Option<String>>> {
        let rows = self.get(ids)?;
        Ok(rows.into_iter().map(|row| row.map(|row| digest(&row.record, &row.vector))).collect())
    }

    fn ids(&mut self, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let last = after.map(|id| self.index().find(id)).transpose()?.flatten();
        let rows = self.index().rows().filter(|row| last.is_none_or(|last| *row > last)).take(limit);
        rows.map(|row| Ok(self.index().record(row)?.id)).collect()
    }

    fn search(&mut self, queries: &Embeddings, search: &StoreSearch) -> Result<Vec<Vec<Found>>> {
        if queries.dim() != self.dim() {
            let message = format!("queries have {} dimensions, the store has {}", queries.dim(), self.dim());
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        let mut options = SearchOptions::new(search.k);
        options.filter = search.filter.clone();
        options.codes = search.approximate.then_some(Codes::Int8);
        let found =
            |hit: &care_core::index::Hit| Ok(Found { score: hit.score, record: self.index().record(hit.index)? });
        let hits = self.index().search(queries, &options)?;
        hits.iter().map(|hits| hits.iter().map(found).collect()).collect()
    }

    fn finish(&mut self) -> Result<()> {
        self.0.compact()
    }
}
