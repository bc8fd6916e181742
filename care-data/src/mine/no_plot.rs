//! No histograms: a build without the Cargo feature `plots`.

use care_core::Result;

use super::report::Report;

pub(super) fn histograms(_: &Report) -> Result<String> {
    Ok(String::new())
}
