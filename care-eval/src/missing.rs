//! How a judged query counts that the run does not answer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a judged query counts that is not in the run. A query that is in the run with no document counts as 0 under
/// every rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Missing {
    /// It is left out: the mean is over the queries that are in both the qrels and the run. The rule of trec_eval
    /// without `-c`.
    #[default]
    Drop,
    /// It scores 0: the mean is over all queries of the qrels. The rule of `trec_eval -c`, and the right one if systems
    /// may decline to answer.
    Zero,
}

impl Missing {
    /// Every rule.
    pub const ALL: &[Self] = &[Self::Drop, Self::Zero];

    /// The rule's name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Zero => "zero",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Missing {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|missing| missing.name() == name);
        found.ok_or_else(|| Error::setting("missing", "rule for missing queries", name, Self::ALL))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_the_same_in_serde_and_on_the_command_line() {
        for &missing in Missing::ALL {
            assert_eq!(serde_json::to_value(missing).unwrap(), missing.name());
            assert_eq!(missing.name().parse::<Missing>().unwrap(), missing);
        }
        let error = "skip".parse::<Missing>().unwrap_err();
        assert_eq!(error.to_string(), "unknown rule for missing queries \"skip\"; accepted: drop, zero");
        assert_eq!((error.kind(), error.field()), (crate::error::ErrorKind::Setting, Some("missing")));
    }
}
