//! Tables of ids and vectors in Parquet.

mod arrow_schema;
mod read;
mod write;

use std::fmt::Display;

use care_core::index::DocumentTower;
use care_core::{Error, Result};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};

pub(crate) use read::Table;
pub(crate) use write::{Concatenation, encode};

/// The key under which a file says what its vectors are.
const KEY: &str = "care";

/// What the vectors of a file are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    /// SHA-256 of the plan.
    pub(crate) plan: String,
    /// The tower that computed them.
    pub(crate) tower: DocumentTower,
    /// Number of the shard; none in a merged file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shard: Option<usize>,
    /// SHA-256 of the shard's ids, titles and texts; none in a merged file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) texts: Option<String>,
}

impl Origin {
    fn key_value(&self) -> std::result::Result<KeyValue, ParquetError> {
        let text = serde_json::to_string(self).map_err(|e| ParquetError::External(Box::new(e)))?;
        Ok(KeyValue::new(KEY.to_owned(), text))
    }
}

/// An error of a Parquet file at a place.
fn failed(place: impl Display, error: ParquetError) -> Error {
    Error::format(place.to_string(), format!("not a readable table of vectors: {error}")).with_source(error)
}

/// Runs a call of the library, which panics on some damaged files.
fn guarded<T>(place: &str, call: impl FnOnce() -> std::result::Result<T, ParquetError>) -> Result<T> {
    match care_core::guard::guarded(call) {
        Ok(result) => result.map_err(|e| failed(place, e)),
        Err(_) => Err(Error::format(place, "not a readable table of vectors: it is damaged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    #[test]
    fn a_table_gives_back_ids_vectors_and_origin() {
        let tower = DocumentTower::new("tower").with_instruction("文: {text}");
        let origin = Origin { plan: "p".into(), tower, shard: Some(3), texts: Some("t".into()) };
        let ids: Vec<String> = (0..2500).map(|n| format!("文{n}")).collect();
        for (dtype, error) in [(Dtype::F32, 0.0), (Dtype::F16, 5e-4), (Dtype::Int8, 4e-3)] {
            for dim in [1, 3, 64] {
                let vectors: Vec<f32> = (0..2500 * dim).map(|n| ((n * 37 % 1000) as f32 - 500.0) / 500.0).collect();
                let content = encode(&ids, &vectors, dim, dtype, &origin).expect("written");
                let table = Table::open("F", content.into()).expect("opened");
                assert_eq!((table.rows(), table.origin().expect("there")), (2500, origin.clone()));
                assert_eq!(table.ids().expect("read"), ids);
                let mut read = Vec::new();
                table
                    .vectors(dim, &mut |rows| {
                        read.extend_from_slice(rows);
                        Ok(())
                    })
                    .expect("read");
                let most = read.iter().zip(&vectors).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(read.len() == vectors.len() && most <= error, "{dtype:?} {dim}: {most}");
            }
        }
    }

    #[test]
    fn damage_is_an_error() {
        let origin = Origin { plan: "p".into(), tower: DocumentTower::new("t"), shard: None, texts: None };
        let content = encode(&["a".into()], &[1.0, 2.0], 2, Dtype::F32, &origin).expect("written");
        for length in [0, 3, 20, content.len() / 2, content.len() - 1] {
            let error = Table::open("F", content[..length].to_vec().into()).err().expect("cut").to_string();
            assert!(error.starts_with("F: not a readable table of vectors: "), "{error}");
        }
        let mut read = Vec::new();
        let table = Table::open("F", content.into()).expect("opened");
        let error = table
            .vectors(3, &mut |rows| {
                read.extend_from_slice(rows);
                Ok(())
            })
            .expect_err("other");
        assert_eq!(
            error.to_string(),
            "F: not a readable table of vectors: Parquet error: vectors of another size than 3"
        );
    }
}
