//! Rows that cannot be used: the first one ends the work, or all are counted and listed.

use std::path::{Path, PathBuf};

use care_core::files::write_atomic;
use care_core::{Error, Result};

use crate::stderr::note;

/// Bad rows that are shown; all are in the file.
const SHOWN: usize = 5;

#[derive(clap::Args)]
pub(crate) struct BadRowsArgs {
    /// Leave out rows that cannot be used, count them and list them in OUTPUT.skipped.txt, instead of stopping at the
    /// first
    #[arg(long)]
    skip_bad: bool,
}

/// What was wrong with the rows that were left out.
pub(crate) struct BadRows {
    skip: bool,
    problems: Vec<String>,
}

impl BadRowsArgs {
    /// Whether bad rows are left out.
    pub(crate) fn skips(&self) -> bool {
        self.skip_bad
    }

    pub(crate) fn collect(&self) -> BadRows {
        BadRows { skip: self.skip_bad, problems: Vec::new() }
    }
}

impl BadRows {
    /// Keeps the error of a row.
    ///
    /// # Errors
    /// The error itself, unless bad rows are skipped.
    pub(crate) fn take(&mut self, error: Error) -> Result<()> {
        if !self.skip {
            return Err(error);
        }
        self.problems.push(error.to_string());
        Ok(())
    }

    /// Number of rows left out.
    pub(crate) fn count(&self) -> usize {
        self.problems.len()
    }

    /// Shows the first problems and lists all beside the output.
    ///
    /// # Errors
    /// If the list cannot be written.
    pub(crate) fn report(&self, output: &Path) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let mut list = output.as_os_str().to_owned();
        list.push(".skipped.txt");
        let list = PathBuf::from(list);
        write_atomic(&list, self.problems.join("\n") + "\n")?;
        note!("warning: {} rows were left out, listed in {}:", self.count(), list.display());
        self.problems.iter().take(SHOWN).for_each(|problem| note!("  {problem}"));
        Ok(())
    }
}
