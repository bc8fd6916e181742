//! Approximate search by the graphs of segments: their settings, and what they lose against exact search.

use serde::{Deserialize, Serialize};

/// How the graphs of an index are built and searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GraphOptions {
    /// Links per row and level, twice as many on the lowest one: 2 to 256, by default 16.
    pub links: usize,
    /// Candidates kept while a row is added: 1 to 65,536, by default 128.
    pub build_expansion: usize,
    /// Candidates kept, and rescored by their vectors, in a search that says nothing else: 1 to 65,536, by default 128.
    pub expansion: usize,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self { links: 16, build_expansion: 128, expansion: 128 }
    }
}

impl GraphOptions {
    /// Sets the links per row.
    #[must_use]
    pub fn with_links(mut self, links: usize) -> Self {
        self.links = links;
        self
    }

    /// Sets the candidates kept while a row is added.
    #[must_use]
    pub fn with_build_expansion(mut self, build_expansion: usize) -> Self {
        self.build_expansion = build_expansion;
        self
    }

    /// Sets the candidates of a search.
    #[must_use]
    pub fn with_expansion(mut self, expansion: usize) -> Self {
        self.expansion = expansion;
        self
    }
}

/// What the queries were by which a loss was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LossSample {
    /// Queries as users ask them, encoded by the query tower.
    Queries,
    /// Texts of the index, encoded by the query tower as if they were queries. A poor substitute: the vectors of queries lie
    /// elsewhere, above all those of another tower than the documents'.
    Documents,
}

/// What approximate search loses: the share of the best documents of exact search that it does not find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Loss {
    /// What the queries were.
    pub sample: LossSample,
    /// Number of queries.
    pub queries: usize,
    /// Documents of exact search that are looked for, per query.
    pub k: usize,
    /// Candidates kept in each search.
    pub expansion: usize,
    /// The mean over the queries, 0 to 1. A document is found if one with its score is.
    pub mean: f64,
    /// Where the mean over all such queries is with a probability of 95 %, by the percentiles of 1,000 bootstrap samples.
    pub interval: [f64; 2],
}

/// What an index states of its graphs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Approximation {
    /// The settings.
    pub options: GraphOptions,
    /// Rows, removed ones included, when the graphs were built.
    pub rows: usize,
    /// The loss that was measured then; `None` if there was no query.
    pub loss: Option<Loss>,
}
