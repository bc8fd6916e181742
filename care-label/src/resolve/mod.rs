//! Resolves votes: a rule joins the ballots of all judges for a pair into one label.

mod compare;
mod dawid_skene;
mod label;
mod rules;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::ballots::Ballots;

pub use compare::{Comparison, RuleCounts, compare};
pub use dawid_skene::{DawidSkene, JudgeModel};
pub use label::{Disputed, Label, Outcome, Settled, for_each_label, read_labels, settle, write_labels};
pub use rules::accuracies;

#[cfg(test)]
pub(crate) use label::label;

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

    fn check(&self, judges: usize) -> Result<()> {
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

    fn votes_needed(&self, rule: Rule, judges: usize) -> usize {
        self.min_votes.unwrap_or(if rule == Rule::Unanimous { judges } else { judges / 2 + 1 })
    }
}

/// The labels of all pairs, and what the rule estimated on the way.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Resolution {
    /// One label per row of the ballots, in their order.
    pub labels: Vec<Label>,
    /// How many pairs came out how.
    pub counts: RuleCounts,
    /// The probability of each judge to be right, by which [`Rule::Weighted`] weighted.
    pub accuracies: Option<BTreeMap<String, f64>>,
    /// The model behind a Dawid-Skene rule, or behind weights that were not given.
    pub model: Option<DawidSkene>,
}

/// Labels all pairs by a rule.
///
/// ```
/// use care_label::ballots::{Ballot, Ballots};
/// use care_label::resolve::{Outcome, ResolveOptions, Rule, resolve};
/// use care_label::{Scale, State};
///
/// let mut builder = Ballots::builder(Scale::new(1, 5, 4)?);
/// for (judge, score) in [("deepseek", 5), ("doubao", 4), ("gpt", 2)] {
///     builder.add(&Ballot {
///         judge: judge.into(), model: judge.into(), prompt: "hash".into(),
///         query_id: "q1".into(), doc_id: "d7".into(),
///         sample: 0, attempt: 1, state: State::Scored, score: Some(score),
///     })?;
/// }
/// let ballots = builder.finish()?;
/// let outcome = |rule| Ok(resolve(&ballots, rule, &ResolveOptions::default())?.labels[0].outcome);
/// assert_eq!(outcome(Rule::Unanimous)?, Outcome::Disputed);
/// assert_eq!(outcome(Rule::Majority)?, Outcome::Positive);
/// assert_eq!(outcome(Rule::Mean)?, Outcome::Negative); // 3.67
/// # Ok::<(), care_core::Error>(())
/// ```
///
/// # Errors
/// If a setting is out of its range, or accuracies are given but not for every judge.
pub fn resolve(ballots: &Ballots, rule: Rule, options: &ResolveOptions) -> Result<Resolution> {
    let judges = ballots.judges().len();
    options.check(judges)?;
    let needed = options.votes_needed(rule, judges);
    let mut resolution = Resolution { labels: vec![], counts: RuleCounts::new(rule), accuracies: None, model: None };
    let decide: Box<dyn Fn(usize) -> rules::Decision + '_> = match rule {
        Rule::Unanimous | Rule::Majority | Rule::Mean | Rule::Median => {
            Box::new(move |row| rules::by_counting(ballots, rule, row))
        }
        Rule::Weighted => {
            let accuracies = match &options.accuracies {
                Some(accuracies) => accuracies.clone(),
                None => {
                    let model = DawidSkene::binary(ballots, options)?;
                    let accuracies = model.accuracies();
                    resolution.model = Some(model);
                    accuracies
                }
            };
            let weights = rules::weights(ballots, &accuracies)?;
            resolution.accuracies = Some(accuracies);
            Box::new(move |row| rules::by_weights(ballots, &weights, options.certainty, row))
        }
        Rule::DawidSkene | Rule::DawidSkeneOrdinal => {
            let model = match rule {
                Rule::DawidSkene => DawidSkene::binary(ballots, options)?,
                _ => DawidSkene::ordinal(ballots, options)?,
            };
            let posteriors = model.posteriors(ballots);
            let classes = model.classes.clone();
            resolution.model = Some(model);
            let certainty = options.certainty;
            Box::new(move |row| {
                rules::by_posterior(ballots, &classes, &posteriors[row * classes.len()..][..classes.len()], certainty)
            })
        }
    };
    resolution.labels.reserve(ballots.len());
    for row in 0..ballots.len() {
        let votes = ballots.scores(row).flatten();
        let number = votes.clone().count();
        let decision = if number < needed { rules::Decision::incomplete() } else { decide(row) };
        let (query_id, doc_id) = ballots.pair(row);
        let label = Label {
            query_id: query_id.into(),
            doc_id: doc_id.into(),
            outcome: decision.outcome,
            grade: decision.grade(ballots.scale(), votes.clone()),
            score: (number > 0).then(|| votes.sum::<f64>() / number as f64),
            probability: decision.probability,
            votes: number as u32,
            expert: false,
        };
        resolution.counts.count(label.outcome);
        resolution.labels.push(label);
    }
    drop(decide);
    Ok(resolution)
}

/// An accuracy for every judge, or what is wrong with it.
fn accuracy_of(accuracies: &BTreeMap<String, f64>, judge: &str) -> Result<f64> {
    let allowed = "above 0 and below 1, for each judge";
    match accuracies.get(judge) {
        None => Err(Error::setting("accuracies", format!("without judge `{judge}`"), allowed)),
        Some(accuracy) if !(*accuracy > 0.0 && *accuracy < 1.0) => {
            Err(Error::setting("accuracies", format!("{accuracy} for judge `{judge}`"), allowed))
        }
        Some(accuracy) => Ok(*accuracy),
    }
}

fn too_few(problem: &str) -> Error {
    Error::new(ErrorKind::Format, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ballots::table;
    use crate::scale::Scale;

    /// Three judges; the last one missing on two pairs.
    const ROWS: [&[Option<i32>]; 7] = [
        &[Some(5), Some(4), Some(4)],
        &[Some(1), Some(3), Some(2)],
        &[Some(5), Some(5), Some(1)],
        &[Some(4), Some(3), Some(3)],
        &[Some(5), Some(4), None],
        &[Some(5), Some(1), None],
        &[Some(5), None, None],
    ];

    fn outcomes(rule: Rule, options: &ResolveOptions) -> String {
        let ballots = table(Scale::new(1, 5, 4).expect("five"), &ROWS);
        let resolution = resolve(&ballots, rule, options).expect("labels");
        let letter = |label: &Label| match label.outcome {
            Outcome::Positive => '+',
            Outcome::Negative => '-',
            Outcome::Disputed => '?',
            Outcome::Incomplete => '.',
        };
        resolution.labels.iter().map(letter).collect()
    }

    #[test]
    fn each_rule_decides_as_by_hand() {
        let options = ResolveOptions::default();
        assert_eq!(outcomes(Rule::Unanimous, &options), "+-??...");
        assert_eq!(outcomes(Rule::Majority, &options), "+-+-+?.");
        // Means 4.33, 2, 3.67, 3.33, 4.5, 3.
        assert_eq!(outcomes(Rule::Mean, &options), "+---+-.");
        // Medians 4, 2, 5, 3, 4.5, 3.
        assert_eq!(outcomes(Rule::Median, &options), "+-+-+-.");
        assert_eq!(outcomes(Rule::Unanimous, &options.clone().with_min_votes(2)), "+-??+?.");
        assert_eq!(outcomes(Rule::Majority, &options.clone().with_min_votes(1)), "+-+-+?+");
        // The third judge outweighs the others together: ln 99 against 2 ln 3. The last pair has one vote for it.
        let given = |a, b, c| {
            let accuracies = [("j0", a), ("j1", b), ("j2", c)].map(|(judge, p)| (judge.to_owned(), p));
            options.clone().with_accuracies(accuracies.into()).with_min_votes(1)
        };
        assert_eq!(outcomes(Rule::Weighted, &given(0.75, 0.75, 0.99)), "+---+?+");
        assert_eq!(outcomes(Rule::Weighted, &given(0.9, 0.75, 0.6)), "+-+++++");
        assert_eq!(outcomes(Rule::Weighted, &given(0.9, 0.75, 0.6).with_certainty(0.95)), "+-??+??");
    }

    #[test]
    fn labels_have_scores_grades_and_probabilities() {
        let ballots = table(Scale::new(1, 5, 4).expect("five"), &ROWS);
        let labels = |rule, options: &ResolveOptions| resolve(&ballots, rule, options).expect("labels");
        let unanimous = labels(Rule::Unanimous, &ResolveOptions::default());
        let grades: Vec<_> = unanimous.labels.iter().map(|label| label.grade).collect();
        assert_eq!(grades, [Some(1), Some(0), None, None, None, None, None]);
        assert_eq!((unanimous.labels[4].score, unanimous.labels[4].votes), (Some(4.5), 2));
        assert_eq!((unanimous.counts.positive, unanimous.counts.disputed, unanimous.counts.incomplete), (1, 2, 3));
        // 4.5 is rounded up to the second grade; a positive pair of a low mean has the first one.
        let majority = labels(Rule::Majority, &ResolveOptions::default());
        assert_eq!((majority.labels[4].grade, majority.labels[2].grade), (Some(2), Some(1)));
        let accuracies = ["j0", "j1", "j2"].map(|judge| (judge.to_owned(), 0.8)).into();
        let weighted = labels(Rule::Weighted, &ResolveOptions::default().with_accuracies(accuracies));
        let probability = weighted.labels[2].probability.expect("one");
        // Two votes of odds 4 for, one against.
        assert!((probability - 0.8).abs() < 1e-12, "{probability}");
    }

    #[test]
    fn settings_are_checked_and_names_read_back() {
        let ballots = table(Scale::new(1, 5, 4).expect("five"), &ROWS);
        let refused =
            |rule, options: ResolveOptions| resolve(&ballots, rule, &options).expect_err("refused").to_string();
        let options = ResolveOptions::default;
        assert_eq!(
            refused(Rule::Mean, options().with_min_votes(4)),
            "`min_votes` is 4, allowed: 1 to 3, the number of judges"
        );
        assert_eq!(refused(Rule::Mean, options().with_certainty(0.4)), "`certainty` is 0.4, allowed: 0.5 to 1");
        assert_eq!(refused(Rule::Mean, options().with_smoothing(-1.0)), "`smoothing` is -1, allowed: >= 0");
        assert_eq!(refused(Rule::Mean, options().with_tolerance(0.0)), "`tolerance` is 0, allowed: > 0");
        assert_eq!(refused(Rule::Mean, options().with_iterations(0)), "`iterations` is 0, allowed: >= 1");
        assert_eq!(
            refused(Rule::Weighted, options().with_accuracies([("j0".to_owned(), 0.9)].into())),
            "`accuracies` is without judge `j1`, allowed: above 0 and below 1, for each judge"
        );
        let certain = ["j0", "j1", "j2"].map(|judge| (judge.to_owned(), 1.0)).into();
        assert!(
            refused(Rule::Weighted, options().with_accuracies(certain)).starts_with("`accuracies` is 1 for judge `j0`")
        );
        for rule in Rule::ALL {
            assert_eq!(rule.name().parse::<Rule>().expect("a rule"), rule);
            assert_eq!(serde_json::to_value(rule).expect("JSON"), rule.name());
        }
        assert!(
            "mode".parse::<Rule>().expect_err("none").to_string().starts_with("`rule` is `mode`, allowed: unanimous, ")
        );
    }
}
