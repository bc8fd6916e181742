//! Writes texts with their vectors as a Parquet table.

use std::path::Path;
use std::sync::Arc;

use care_core::Result;

#[cfg(not(feature = "parquet"))]
use super::no_parquet::Table;
#[cfg(feature = "parquet")]
use super::parquet::Table;
use super::record::{Kind, Record, Value};

/// A Parquet file of texts and their vectors (with the Cargo feature `parquet`), which appears whole when it is finished.
///
/// Its columns are `_id` (text, null where a text has no id), `text` and `embedding` (list of floats).
pub struct VectorTable {
    table: Table,
    names: Arc<[(String, Kind)]>,
}

impl VectorTable {
    /// Starts a file.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let names = [("_id", Kind::Text), ("text", Kind::Text), ("embedding", Kind::Scores)];
        let names: Arc<[_]> = names.map(|(name, kind)| (name.to_owned(), kind)).into();
        Ok(Self { table: Table::create(path.as_ref(), &names)?, names })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn push(&mut self, id: Option<&str>, text: &str, embedding: Vec<f32>) -> Result<()> {
        let values = vec![
            id.map(|id| Value::Text(id.to_owned())),
            Some(Value::Text(text.to_owned())),
            Some(Value::Scores(embedding)),
        ];
        self.table.push(Record { names: Arc::clone(&self.names), values })
    }

    /// Moves the complete file into place.
    ///
    /// # Errors
    /// If the file cannot be written; what was at its place is then still there.
    pub fn finish(self) -> Result<()> {
        self.table.finish()
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::table::for_each_row;

    #[test]
    fn a_table_of_vectors_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vectors.parquet");
        let mut table = VectorTable::create(&path).expect("created");
        let rows = [(Some("7"), "头痛", vec![0.5, -1.25]), (None, "", vec![3.0, 1e-30])];
        for (id, text, embedding) in rows.clone() {
            table.push(id, text, embedding).expect("written");
        }
        assert!(!path.exists());
        table.finish().expect("finished");
        let mut read = Vec::new();
        for_each_row(&path, &mut |_, row: Value| {
            read.push(row);
            Ok(())
        })
        .expect("read");
        assert_eq!(read, rows.map(|(id, text, embedding)| json!({"_id": id, "text": text, "embedding": embedding})));
    }
}
