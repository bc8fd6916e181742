//! How the candidates of a search in an index are selected.

use care_core::index::SearchOptions;

use super::shared::CodesArg;

#[derive(clap::Args)]
pub(crate) struct SelectionArgs {
    /// Select candidates by these codes and rescore them by their vectors; by default every vector is scored
    #[arg(long)]
    codes: Option<CodesArg>,
    /// Candidates per returned document, with --codes; by default 4 for int8 and 20 for binary
    #[arg(long, value_name = "N", requires = "codes")]
    oversampling: Option<u32>,
    /// Select candidates by the graphs of `care index approximate`, or by the database's approximate index, and rescore them by
    /// their vectors: some documents are missed
    #[arg(long, conflicts_with = "codes")]
    pub(super) approximate: bool,
    /// Candidates, with --approximate; by default as stored
    #[arg(long, value_name = "N", requires = "approximate")]
    expansion: Option<u32>,
}

impl SelectionArgs {
    /// Whether anything is asked for.
    pub(crate) fn is_given(&self) -> bool {
        self.is_of_index() || self.approximate
    }

    /// Whether something is asked for that only an index on disk has.
    pub(super) fn is_of_index(&self) -> bool {
        self.codes.is_some() || self.expansion.is_some()
    }

    /// The options of a search for the `k` best documents.
    pub(crate) fn options(&self, k: usize) -> SearchOptions {
        let mut options = SearchOptions::new(k);
        options.codes = self.codes.and_then(CodesArg::codes);
        options.approximate = self.approximate;
        options.expansion = self.expansion.map(|expansion| expansion as usize);
        options.oversampling = self.oversampling.map(|factor| factor as usize);
        options
    }
}
