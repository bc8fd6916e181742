//! Finds the tensors of a safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use care_core::{Error, Result};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::IgnoredAny;

use super::location::Location;
use super::unique_names::UniqueNames;

/// Largest header in bytes, the limit of the safetensors format.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a file by name.
///
/// # Errors
/// If it is cut off, or no safetensors file, or a name is duplicated.
pub(super) fn read_tensors(path: &Path, mut file: File) -> Result<BTreeMap<String, Location>> {
    let damaged = |problem: String| Error::format(path, format!("not a complete safetensors file: {problem}"));
    let length = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| damaged(format!("{length} bytes")))?;
    let header = u64::from_le_bytes(size);
    if header > MAX_HEADER || header + 8 > length {
        return Err(damaged(format!("a header of {header} bytes in a file of {length}")));
    }
    let mut json = vec![0; header as usize];
    file.read_exact(&mut json).map_err(|e| Error::io("read", path, e))?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
    // The reader of the format keeps the last of several tensors of a name.
    serde_json::from_slice::<UniqueNames<IgnoredAny>>(&json).map_err(|e| damaged(e.to_string()))?;
    let start = header + 8;
    let end = start.checked_add(metadata.data_len() as u64);
    if end != Some(length) {
        let end = end.map_or_else(|| "far more".to_owned(), |end| end.to_string());
        return Err(damaged(format!("{length} bytes, expected {end}")));
    }
    let located = |(name, info): (String, &TensorInfo)| {
        let location = Location {
            file: path.to_owned(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            strides: None,
            offset: start + info.data_offsets.0 as u64,
            storage: None,
        };
        (name, location)
    };
    Ok(metadata.tensors().into_iter().map(located).collect())
}
