//! Stands in for the Parquet reader if it is not compiled in.

use std::path::Path;

use care_core::{Error, Result};

pub(super) fn for_each<R>(path: &Path, _each: &mut dyn FnMut(usize, R) -> Result<()>) -> Result<()> {
    columns(path).map(drop)
}

pub(super) fn columns(path: &Path) -> Result<Vec<String>> {
    Err(Error::format(path, "Parquet is not compiled in: build with the Cargo feature `parquet`"))
}
