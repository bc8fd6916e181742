//! Verdicts about negatives.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The rule that finds a negative whose text is a positive of its row, after [`normalise`](crate::normalise).
pub const IS_POSITIVE: &str = "is a positive";
/// The rule that finds a negative whose text is the query, after [`normalise`](crate::normalise).
pub const IS_QUERY: &str = "is the query";

/// What a negative is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A true negative, as far as the rules can tell.
    Clean,
    /// It answers the query.
    FalseNegative,
    /// It cannot be told: a score or a vote is missing, or judges disagree.
    Unknown,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// Names of the rules that fired, or why nothing is known; empty if clean.
    pub reasons: Vec<Arc<str>>,
}

impl Finding {
    /// A true negative.
    pub fn clean() -> Self {
        Self { verdict: Verdict::Clean, reasons: Vec::new() }
    }

    /// A verdict for one reason.
    pub fn of(verdict: Verdict, reason: impl Into<Arc<str>>) -> Self {
        Self { verdict, reasons: vec![reason.into()] }
    }

    /// Whether the text is a positive already or the query itself, so that no rule or judge is needed, and it never
    /// becomes a positive.
    pub fn is_same_text(&self) -> bool {
        self.reasons.iter().any(|reason| **reason == *IS_POSITIVE || **reason == *IS_QUERY)
    }
}
