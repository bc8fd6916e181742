//! Manifests of the stages' outputs.

use std::path::Path;

use anyhow::Result;
use care_core::manifest::{Input, Manifest};
use serde_json::{Map, Value};

/// Writes the manifest of a step's output, with its inputs by role. Options and counts are objects.
pub(crate) fn write_manifest(
    step: &str,
    options: Value,
    counts: Value,
    inputs: Vec<Input>,
    output: &Path,
) -> Result<()> {
    let map = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Manifest::write(step, map(options), map(counts), inputs, output)?;
    Ok(())
}
