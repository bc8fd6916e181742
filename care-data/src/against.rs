//! Which of several positives a margin counts from.

use std::fmt;
use std::str::FromStr;

use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The positive score that margins count from, where a row has several positives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// The lowest, as sentence-transformers does: what scores above any known positive may be one itself. The strictest
    /// choice.
    #[default]
    Lowest,
    /// The mean.
    Mean,
    /// The highest: one weak positive does not make all negatives suspicious.
    Highest,
}

impl Against {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Lowest, Self::Mean, Self::Highest];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lowest => "lowest",
            Self::Mean => "mean",
            Self::Highest => "highest",
        }
    }

    /// The reference score; `None` if a positive has none, or there is no positive.
    pub(crate) fn of<S: Copy + Into<f64>>(self, positives: &[Option<S>]) -> Option<f64> {
        let scores: Vec<f64> = positives.iter().map(|score| score.map(Into::into)).collect::<Option<_>>()?;
        match self {
            Self::Lowest => scores.into_iter().reduce(f64::min),
            Self::Highest => scores.into_iter().reduce(f64::max),
            Self::Mean => (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
        }
    }
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Against {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|against| against.name() == name)
            .ok_or_else(|| Error::setting("against", format!("`{name}`"), &Self::ALL.map(Self::name).join(", ")))
    }
}
