//! What is done about false negatives.

use std::fmt;
use std::str::FromStr;

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::agreement::Agreement;
use super::score::Scorer;

/// What is done about a false negative.
///
/// # Reference
/// RLHN (arXiv 2505.16967); its names are read too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing: rows stay as they are, false negatives are only listed and counted. RLHN's `default`.
    Keep,
    /// It is dropped from its row. RLHN's `hn_remove`.
    #[default]
    DropNegative,
    /// It becomes a positive of its row. RLHN's `rlhn`.
    MakePositive,
    /// Its row is dropped. RLHN's `remove`.
    DropRow,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Keep, Self::DropNegative, Self::MakePositive, Self::DropRow];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::DropNegative => "drop-negative",
            Self::MakePositive => "make-positive",
            Self::DropRow => "drop-row",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "keep" | "default" => Ok(Self::Keep),
            "drop-negative" | "hn-remove" | "hn_remove" => Ok(Self::DropNegative),
            "make-positive" | "rlhn" => Ok(Self::MakePositive),
            "drop-row" | "remove" => Ok(Self::DropRow),
            _ => Err(Error::setting("mode", format!("`{name}`"), &Self::ALL.map(Self::name).join(", "))),
        }
    }
}

/// What is done about a negative of which nothing is known: without a score or a vote, or disputed. It is counted in
/// every case. With [`Mode::Keep`], rows stay as they are whatever is set here, except for [`Unknown::Error`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// It is dropped from its row: only what is known to be negative is trained on.
    #[default]
    DropNegative,
    /// It stays a negative.
    Keep,
    /// Its row is dropped.
    DropRow,
    /// It is an error, which names its line.
    Error,
}

impl Unknown {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::DropNegative, Self::Keep, Self::DropRow, Self::Error];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropNegative => "drop-negative",
            Self::Keep => "keep",
            Self::DropRow => "drop-row",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Unknown {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.name() == name)
            .ok_or_else(|| Error::setting("unknown", format!("`{name}`"), &Self::ALL.map(Self::name).join(", ")))
    }
}

/// How rows are cleaned.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct CleanOptions {
    /// What scored the texts. Without any, nothing is known of a negative until somebody else tells.
    pub scorers: Vec<Scorer>,
    /// How many scorers must suspect a negative.
    pub agreement: Agreement,
    /// What is done about false negatives.
    pub mode: Mode,
    /// What is done about negatives of which nothing is known.
    pub unknown: Unknown,
    /// Rows with more false negatives than this are dropped, except with [`Mode::Keep`]. Default: none are. RLHN drops
    /// rows with more than 8.
    pub max_false_negatives: Option<usize>,
    /// Rows that are left with fewer negatives than this are dropped, except with [`Mode::Keep`]. Default 0.
    pub min_negatives: usize,
}

impl CleanOptions {
    /// Adds a scorer.
    #[must_use]
    pub fn with_scorer(mut self, scorer: Scorer) -> Self {
        self.scorers.push(scorer);
        self
    }

    /// Sets [`CleanOptions::agreement`].
    #[must_use]
    pub fn with_agreement(self, agreement: Agreement) -> Self {
        Self { agreement, ..self }
    }

    /// Sets [`CleanOptions::mode`].
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Sets [`CleanOptions::unknown`].
    #[must_use]
    pub fn with_unknown(self, unknown: Unknown) -> Self {
        Self { unknown, ..self }
    }

    /// Sets [`CleanOptions::max_false_negatives`].
    #[must_use]
    pub fn with_max_false_negatives(self, most: usize) -> Self {
        Self { max_false_negatives: Some(most), ..self }
    }

    /// Sets [`CleanOptions::min_negatives`].
    #[must_use]
    pub fn with_min_negatives(self, least: usize) -> Self {
        Self { min_negatives: least, ..self }
    }

    pub(super) fn check(&self) -> Result<()> {
        for (at, scorer) in self.scorers.iter().enumerate() {
            if scorer.name.trim().is_empty() || self.scorers[..at].iter().any(|other| other.name == scorer.name) {
                return Err(Error::setting("scorer", format!("`{}` twice or empty", scorer.name), "names that differ"));
            }
            scorer.limits.check(&scorer.name)?;
        }
        self.agreement.check(self.scorers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::*;

    #[test]
    fn modes_have_the_names_of_rlhn_too() {
        for (name, mode) in [
            ("default", Mode::Keep),
            ("hn_remove", Mode::DropNegative),
            ("hn-remove", Mode::DropNegative),
            ("rlhn", Mode::MakePositive),
            ("remove", Mode::DropRow),
        ] {
            assert_eq!(name.parse::<Mode>().expect("a mode"), mode);
        }
        for mode in Mode::ALL {
            assert_eq!(mode.to_string().parse::<Mode>().expect("a mode"), mode);
            assert_eq!(serde_json::to_value(mode).expect("JSON"), mode.name());
        }
        for choice in Unknown::ALL {
            assert_eq!(choice.to_string().parse::<Unknown>().expect("a choice"), choice);
            assert_eq!(serde_json::to_value(choice).expect("JSON"), choice.name());
        }
        let message = |error: Error| error.to_string();
        assert_eq!(
            "drop".parse::<Mode>().map_err(message),
            Err("`mode` is `drop`, allowed: keep, drop-negative, make-positive, drop-row".into())
        );
        assert_eq!(
            "clean".parse::<Unknown>().map_err(message),
            Err("`unknown` is `clean`, allowed: drop-negative, keep, drop-row, error".into())
        );
        let twice = CleanOptions::default()
            .with_scorer(Scorer::new("a", Limits::default().with_max_score(1.0)))
            .with_scorer(Scorer::new("a", Limits::default().with_max_score(2.0)));
        assert_eq!(
            twice.check().map_err(message),
            Err("`scorer` is `a` twice or empty, allowed: names that differ".into())
        );
    }
}
