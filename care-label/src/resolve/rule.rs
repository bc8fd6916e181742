//! The rules by name, their settings, and what they are counted by.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::label::Outcome;

/// How the votes for a pair become a label.
///
/// A judge votes positive if its score, the mean over its samples, reaches the threshold of the scale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Positive if every judge votes positive, negative if none does, else disputed.
    ///
    /// # Reference
    /// CMedTEB (arXiv 2604.10937): "positive only where all three agree".
    #[default]
    Unanimous,
    /// What more than half of the votes say; disputed if they are split evenly.
    Majority,
    /// Positive if the mean score reaches the threshold.
    Mean,
    /// Positive if the median score, of an even number the mean of the middle two, reaches the threshold.
    Median,
    /// The sum of votes, each weighted by the log-odds that the judge is right.
    ///
    /// # Reference
    /// Nitzan and Paroush, *Optimal decision rules in uncertain dichotomous choice situations*, 1982.
    Weighted,
    /// The posterior of a model with a sensitivity and a specificity of each judge.
    ///
    /// # Reference
    /// Dawid and Skene, *Maximum likelihood estimation of observer error-rates using the EM algorithm*, 1979.
    DawidSkene,
    /// The same over all points of the scale: each judge has a probability of every point for each true point. Positive is
    /// the sum from the threshold on.
    DawidSkeneOrdinal,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 7] = [
        Self::Unanimous,
        Self::Majority,
        Self::Mean,
        Self::Median,
        Self::Weighted,
        Self::DawidSkene,
        Self::DawidSkeneOrdinal,
    ];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unanimous => "unanimous",
            Self::Majority => "majority",
            Self::Mean => "mean",
            Self::Median => "median",
            Self::Weighted => "weighted",
            Self::DawidSkene => "dawid-skene",
            Self::DawidSkeneOrdinal => "dawid-skene-ordinal",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.name() == name)
            .ok_or_else(|| Error::setting("rule", format!("`{name}`"), &Self::ALL.map(Self::name).join(", ")))
    }
}

/// Settings of the rules.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ResolveOptions {
    /// Judges that must have voted on a pair, 1 to their number; with fewer it is incomplete. Default: all for
    /// [`Rule::Unanimous`], more than half for the others.
    pub min_votes: Option<usize>,
    /// For [`Rule::Weighted`]: the probability of each judge to be right, above 0 and below 1; 0.5 has no weight, less
    /// counts against the vote. Default: as [`Rule::DawidSkene`] estimates it from the votes.
    pub accuracies: Option<BTreeMap<String, f64>>,
    /// For rules with a probability: pairs whose more probable side is less probable than this are disputed, 0.5 to 1.
    /// Default 0.5: only ties are.
    pub certainty: f64,
    /// Dawid-Skene: pseudo-votes for the right point in each row of a confusion matrix, half as many for each further step
    /// away, >= 0. With 0, the estimate is that of maximum likelihood. Default 1.
    pub smoothing: f64,
    /// Dawid-Skene: stops once the log-likelihood per pair grows by less, > 0. Default 1e-10.
    pub tolerance: f64,
    /// Dawid-Skene: most iterations, >= 1. Default 1000.
    pub iterations: usize,
}

impl Default for ResolveOptions {
    fn default() -> Self {
        Self { min_votes: None, accuracies: None, certainty: 0.5, smoothing: 1.0, tolerance: 1e-10, iterations: 1000 }
    }
}

impl ResolveOptions {
    /// Sets [`min_votes`](Self::min_votes).
    #[must_use]
    pub fn with_min_votes(self, votes: usize) -> Self {
        Self { min_votes: Some(votes), ..self }
    }

    /// Sets [`accuracies`](Self::accuracies).
    #[must_use]
    pub fn with_accuracies(self, accuracies: BTreeMap<String, f64>) -> Self {
        Self { accuracies: Some(accuracies), ..self }
    }

    /// Sets [`certainty`](Self::certainty).
    #[must_use]
    pub fn with_certainty(self, certainty: f64) -> Self {
        Self { certainty, ..self }
    }

    /// Sets [`smoothing`](Self::smoothing).
    #[must_use]
    pub fn with_smoothing(self, smoothing: f64) -> Self {
        Self { smoothing, ..self }
    }

    /// Sets [`tolerance`](Self::tolerance).
    #[must_use]
    pub fn with_tolerance(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// Sets [`iterations`](Self::iterations).
    #[must_use]
    pub fn with_iterations(self, iterations: usize) -> Self {
        Self { iterations, ..self }
    }

    pub(super) fn check(&self, judges: usize) -> Result<()> {
        if let Some(votes) = self.min_votes
            && !(1..=judges).contains(&votes)
        {
            return Err(Error::setting("min_votes", votes, &format!("1 to {judges}, the number of judges")));
        }
        if !(0.5..=1.0).contains(&self.certainty) {
            return Err(Error::setting("certainty", self.certainty, "0.5 to 1"));
        }
        if !(self.smoothing.is_finite() && self.smoothing >= 0.0) {
            return Err(Error::setting("smoothing", self.smoothing, ">= 0"));
        }
        if !(self.tolerance.is_finite() && self.tolerance > 0.0) {
            return Err(Error::setting("tolerance", self.tolerance, "> 0"));
        }
        if self.iterations == 0 {
            return Err(Error::setting("iterations", 0, ">= 1"));
        }
        Ok(())
    }

    pub(super) fn votes_needed(&self, rule: Rule, judges: usize) -> usize {
        self.min_votes.unwrap_or(if rule == Rule::Unanimous { judges } else { judges / 2 + 1 })
    }
}

/// How many pairs came out how under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RuleCounts {
    /// The rule.
    pub rule: Rule,
    /// Positive pairs.
    pub positive: u64,
    /// Negative pairs.
    pub negative: u64,
    /// Pairs on which judges disagree.
    pub disputed: u64,
    /// Pairs with too few votes.
    pub incomplete: u64,
}

impl RuleCounts {
    pub(super) fn new(rule: Rule) -> Self {
        Self { rule, positive: 0, negative: 0, disputed: 0, incomplete: 0 }
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Positive => &mut self.positive,
            Outcome::Negative => &mut self.negative,
            Outcome::Disputed => &mut self.disputed,
            Outcome::Incomplete => &mut self.incomplete,
        } += 1;
    }
}

/// An accuracy for every judge, or what is wrong with it.
pub(super) fn accuracy_of(accuracies: &BTreeMap<String, f64>, judge: &str) -> Result<f64> {
    let allowed = "above 0 and below 1, for each judge";
    match accuracies.get(judge) {
        None => Err(Error::setting("accuracies", format!("without judge `{judge}`"), allowed)),
        Some(accuracy) if !(*accuracy > 0.0 && *accuracy < 1.0) => {
            Err(Error::setting("accuracies", format!("{accuracy} for judge `{judge}`"), allowed))
        }
        Some(accuracy) => Ok(*accuracy),
    }
}

pub(super) fn too_few(problem: &str) -> Error {
    Error::new(ErrorKind::Format, problem)
}
