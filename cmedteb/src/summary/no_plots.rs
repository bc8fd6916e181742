//! No plots: a build without the Cargo feature `plots`.

use care_core::Result;

use super::tables::Summary;
use crate::compare::Comparison;

pub(super) fn scores(_summary: &Summary, _measure: &str) -> Result<String> {
    Ok(String::new())
}

pub(super) fn intervals(_summary: &Summary, _measure: &str) -> Result<String> {
    Ok(String::new())
}

pub(super) fn queries(_comparison: &Comparison) -> Result<String> {
    Ok(String::new())
}
