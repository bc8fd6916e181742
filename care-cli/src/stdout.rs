//! Lines on stdout.

use std::io::Write;

use anyhow::Result;

/// Writes a line to stdout at once, for a program that waits for it.
pub(crate) fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
