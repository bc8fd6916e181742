//! The forms in which training rows are written.

use std::fmt;
use std::str::FromStr;

use care_core::{Error, Result};

/// The form of a written row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RowFormat {
    /// `query`, `pos`, `neg`, and `pos_scores`, `neg_scores`, `pos_id`, `neg_id`, `query_id`, `prompt` and `type` where the
    /// row has them.
    #[default]
    FlagEmbedding,
    /// `anchor`, `positive`, `negative` and, for scored rows, `scores`: one row for each positive and each negative. Rows
    /// without negatives are left out.
    Triplet,
    /// `anchor`, `positive`, `negative_1` to `negative_N` and, for scored rows, `scores`: one row for each positive. Rows
    /// with fewer negatives are left out, since sentence-transformers reads no table with gaps; of more, the first are
    /// taken.
    NTuple(usize),
    /// `query_id`, `query`, `positive_passages` and `negative_passages`, whose passages have `docid`, `title` (empty) and
    /// `text`. Where a row has no ids, they are made from the texts: the first 16 hexadecimal digits of their SHA-256.
    Tevatron,
}

impl FromStr for RowFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let tuple = name.strip_prefix("n-tuple-").and_then(|count| count.parse().ok()).filter(|&count| count > 0);
        match (name, tuple) {
            ("flagembedding", _) => Ok(RowFormat::FlagEmbedding),
            ("triplet", _) => Ok(RowFormat::Triplet),
            ("tevatron", _) => Ok(RowFormat::Tevatron),
            (_, Some(count)) => Ok(RowFormat::NTuple(count)),
            _ => Err(Error::setting("format", name, "flagembedding, triplet, n-tuple-N (e.g. n-tuple-7), tevatron")),
        }
    }
}

impl fmt::Display for RowFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowFormat::FlagEmbedding => f.write_str("flagembedding"),
            RowFormat::Triplet => f.write_str("triplet"),
            RowFormat::NTuple(count) => write!(f, "n-tuple-{count}"),
            RowFormat::Tevatron => f.write_str("tevatron"),
        }
    }
}
