//! The model of Dawid and Skene: the truth of each pair is hidden, and each judge errs at random in its own way.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use care_core::Result;
use serde::Serialize;

use super::rule::{ResolveOptions, too_few};
use crate::ballots::Ballots;

/// A class prior and one confusion matrix per judge, estimated from votes alone by expectation maximisation.
///
/// The start is each pair's share of votes per class. Confusion matrices are smoothed by pseudo-votes that halve with every
/// step away from the diagonal, so that rare points borrow from near ones. What is maximised, and never falls from one
/// iteration to the next, is the likelihood times the density of that prior.
///
/// The model supposes that judges err independently of each other, given the truth. Models of one family often do not:
/// errors that all judges share look like truth, which no method can see in the votes; only experts can.
///
/// # Reference
/// Dawid and Skene, *Maximum likelihood estimation of observer error-rates using the EM algorithm*, 1979; with Dirichlet
/// priors, Raykar et al., *Learning from crowds*, JMLR 2010. Without smoothing, as `DawidSkene` of crowd-kit 1.4.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DawidSkene {
    /// The classes: 0 (negative) and 1 (positive), or all points of the scale.
    pub classes: Vec<i32>,
    /// The share of each class among the pairs.
    pub prior: Vec<f64>,
    /// The judges, in the order of the ballots.
    pub judges: Vec<JudgeModel>,
    /// Pairs with a vote.
    pub pairs: u64,
    /// Number of iterations.
    pub iterations: usize,
    /// Whether the likelihood stopped growing before the last allowed iteration.
    pub converged: bool,
    /// Log-likelihood of the votes.
    pub log_likelihood: f64,
    /// What was maximised, after each iteration: log-likelihood and log-prior.
    #[serde(skip)]
    pub trace: Vec<f64>,
    /// Why the estimate may not be trusted, one sentence each.
    pub warnings: Vec<String>,
}

/// How a judge votes, given the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JudgeModel {
    /// Name of the judge.
    pub judge: String,
    /// Pairs on which it has voted.
    pub votes: u64,
    /// Probability of each vote (column) for each true class (row).
    pub confusion: Vec<Vec<f64>>,
}

/// The class of a missing vote.
const MISSING: u8 = u8::MAX;

impl DawidSkene {
    /// Estimates the model with two classes, negative and positive.
    ///
    /// # Errors
    /// If no pair has a vote.
    pub fn binary(ballots: &Ballots, options: &ResolveOptions) -> Result<Self> {
        Self::estimate(ballots, vec![0, 1], options)
    }

    /// Estimates the model with all points of the scale as classes.
    ///
    /// # Errors
    /// If no pair has a vote.
    pub fn ordinal(ballots: &Ballots, options: &ResolveOptions) -> Result<Self> {
        Self::estimate(ballots, ballots.scale().points().collect(), options)
    }

    /// The probability of each class for each pair, row by row.
    pub fn posteriors(&self, ballots: &Ballots) -> Vec<f64> {
        let logs = Logs::of(&self.prior, self.judges.iter().map(|judge| judge.confusion.as_slice()));
        let mut posteriors = vec![0.0; ballots.len() * self.classes.len()];
        for (row, posterior) in posteriors.chunks_exact_mut(self.classes.len()).enumerate() {
            logs.posterior(&votes(ballots, &self.classes, row), posterior);
        }
        posteriors
    }

    /// The probability of each judge to be right.
    pub fn accuracies(&self) -> BTreeMap<String, f64> {
        let accuracy = |judge: &JudgeModel| {
            let right = self.prior.iter().zip(&judge.confusion).enumerate();
            // Not quite 0 or 1, which would outweigh everybody.
            right.map(|(class, (share, row))| share * row[class]).sum::<f64>().clamp(1e-6, 1.0 - 1e-6)
        };
        self.judges.iter().map(|judge| (judge.judge.clone(), accuracy(judge))).collect()
    }

    fn estimate(ballots: &Ballots, classes: Vec<i32>, options: &ResolveOptions) -> Result<Self> {
        let mut patterns: HashMap<Vec<u8>, f64> = HashMap::new();
        for row in 0..ballots.len() {
            let pattern = votes(ballots, &classes, row);
            if pattern.iter().any(|vote| *vote != MISSING) {
                *patterns.entry(pattern).or_insert(0.0) += 1.0;
            }
        }
        if patterns.is_empty() {
            return Err(too_few("no pair has a vote"));
        }
        // In a fixed order, so that sums do not depend on the hash map's.
        let mut patterns: Vec<_> = patterns.into_iter().collect();
        patterns.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut em = Maximisation::new(&patterns, ballots.judges().len(), classes.len(), options.smoothing);
        let pairs: f64 = patterns.iter().map(|(_, count)| count).sum();
        let (mut trace, mut converged, mut log_likelihood) = (Vec::<f64>::new(), false, 0.0);
        while !converged && trace.len() < options.iterations {
            em.maximise();
            let penalty = em.log_prior();
            log_likelihood = em.expect();
            let value = log_likelihood + penalty;
            converged = trace.last().is_some_and(|last| value - last < options.tolerance * pairs);
            trace.push(value);
        }
        let Maximisation { prior, confusions, .. } = em;
        let judges = ballots.judges().iter().zip(confusions).enumerate().map(|(judge, (judging, confusion))| {
            let voted = patterns.iter().filter(|(pattern, _)| pattern[judge] != MISSING);
            let votes = voted.map(|(_, count)| count).sum::<f64>() as u64;
            JudgeModel { judge: judging.judge.clone(), votes, confusion }
        });
        let mut model = Self {
            judges: judges.collect(),
            classes,
            prior,
            pairs: pairs as u64,
            iterations: trace.len(),
            converged,
            log_likelihood,
            trace,
            warnings: vec![],
        };
        let most = patterns.iter().map(|(pattern, _)| pattern.iter().filter(|vote| **vote != MISSING).count()).max();
        model.warn(most.unwrap_or(0));
        Ok(model)
    }

    fn warn(&mut self, most_votes: usize) {
        if most_votes < 3 {
            self.warnings.push(format!(
                "Dawid-Skene is not identifiable from {most_votes} votes per pair: many error rates explain them equally \
                 well; three judges are needed"
            ));
        }
        if !self.converged {
            self.warnings.push(format!("Dawid-Skene has not converged in {} iterations", self.iterations));
        }
        if self.classes == [0, 1] {
            for JudgeModel { judge, confusion, .. } in &self.judges {
                if confusion[0][0] + confusion[1][1] < 1.0 {
                    self.warnings.push(format!(
                        "judge `{judge}` votes against the others more often than chance; negative and positive may be \
                         exchanged"
                    ));
                }
            }
        }
    }
}

/// The class of each judge's vote for a pair.
fn votes(ballots: &Ballots, classes: &[i32], row: usize) -> Vec<u8> {
    let scale = ballots.scale();
    let class =
        |point: i32| if classes == [0, 1] { u8::from(scale.is_positive(point)) } else { (point - scale.min) as u8 };
    ballots.points(row).map(|point| point.map_or(MISSING, class)).collect()
}

/// The steps of expectation maximisation over the different rows of votes.
struct Maximisation<'a> {
    patterns: &'a [(Vec<u8>, f64)],
    /// Probability of each class, pattern by pattern.
    posteriors: Vec<f64>,
    prior: Vec<f64>,
    /// Per judge, true class and vote.
    confusions: Vec<Vec<Vec<f64>>>,
    smoothing: f64,
}

impl<'a> Maximisation<'a> {
    fn new(patterns: &'a [(Vec<u8>, f64)], judges: usize, classes: usize, smoothing: f64) -> Self {
        let mut posteriors = vec![0.0; patterns.len() * classes];
        for ((pattern, _), posterior) in patterns.iter().zip(posteriors.chunks_exact_mut(classes)) {
            let share = 1.0 / pattern.iter().filter(|vote| **vote != MISSING).count() as f64;
            pattern.iter().filter(|vote| **vote != MISSING).for_each(|vote| posterior[*vote as usize] += share);
        }
        let confusions = vec![vec![vec![0.0; classes]; classes]; judges];
        Self { patterns, posteriors, prior: vec![0.0; classes], confusions, smoothing }
    }

    fn pseudo_votes(&self, class: usize, vote: usize) -> f64 {
        self.smoothing * 0.5_f64.powi(class.abs_diff(vote) as i32)
    }

    /// The parameters, given the posteriors.
    fn maximise(&mut self) {
        let classes = self.prior.len();
        self.prior.fill(self.smoothing);
        for judge in 0..self.confusions.len() {
            for class in 0..classes {
                self.confusions[judge][class] = (0..classes).map(|vote| self.pseudo_votes(class, vote)).collect();
            }
        }
        for ((pattern, count), posterior) in self.patterns.iter().zip(self.posteriors.chunks_exact(classes)) {
            for (class, share) in posterior.iter().enumerate() {
                self.prior[class] += count * share;
                for (confusion, vote) in self.confusions.iter_mut().zip(pattern) {
                    if *vote != MISSING {
                        confusion[class][*vote as usize] += count * share;
                    }
                }
            }
        }
        normalise(&mut self.prior);
        self.confusions.iter_mut().flatten().for_each(|row| normalise(row));
    }

    /// The posteriors, given the parameters; returns the log-likelihood.
    fn expect(&mut self) -> f64 {
        let logs = Logs::of(&self.prior, self.confusions.iter().map(Vec::as_slice));
        let posteriors = self.posteriors.chunks_exact_mut(self.prior.len());
        self.patterns.iter().zip(posteriors).map(|((pattern, count), p)| count * logs.posterior(pattern, p)).sum()
    }

    /// Log-density of the smoothing, but for a constant.
    fn log_prior(&self) -> f64 {
        if self.smoothing == 0.0 {
            return 0.0;
        }
        let of_row = |(class, row): (usize, &Vec<f64>)| {
            row.iter().enumerate().map(|(vote, share)| self.pseudo_votes(class, vote) * share.ln()).sum::<f64>()
        };
        let of_judges = self.confusions.iter().flat_map(|confusion| confusion.iter().enumerate()).map(of_row);
        self.prior.iter().map(|share| self.smoothing * share.ln()).sum::<f64>() + of_judges.sum::<f64>()
    }
}

fn normalise(shares: &mut [f64]) {
    let sum: f64 = shares.iter().sum();
    let number = shares.len() as f64;
    // A class without a pair says nothing of the votes for it.
    shares.iter_mut().for_each(|share| *share = if sum > 0.0 { *share / sum } else { 1.0 / number });
}

/// Logarithms of a model's parameters.
struct Logs {
    prior: Vec<f64>,
    /// Per judge, vote and true class.
    confusions: Vec<Vec<Vec<f64>>>,
}

impl Logs {
    fn of<'a>(prior: &[f64], confusions: impl Iterator<Item = &'a [Vec<f64>]>) -> Self {
        let by_vote = |confusion: &[Vec<f64>]| {
            (0..prior.len()).map(|vote| confusion.iter().map(|row| row[vote].ln()).collect()).collect()
        };
        Self { prior: prior.iter().map(|share| share.ln()).collect(), confusions: confusions.map(by_vote).collect() }
    }

    /// The probability of each class for a row of votes; returns the logarithm of the row's likelihood.
    fn posterior(&self, votes: &[u8], posterior: &mut [f64]) -> f64 {
        posterior.copy_from_slice(&self.prior);
        for (confusion, vote) in self.confusions.iter().zip(votes) {
            if let Some(logs) = confusion.get(*vote as usize) {
                posterior.iter_mut().zip(logs).for_each(|(sum, log)| *sum += log);
            }
        }
        let most = posterior.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        posterior.iter_mut().for_each(|log| *log = (*log - most).exp());
        let sum: f64 = posterior.iter().sum();
        posterior.iter_mut().for_each(|share| *share /= sum);
        most + sum.ln()
    }
}

impl fmt::Display for DawidSkene {
    /// The confusion matrix of each judge as Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = match self.classes.as_slice() {
            [0, 1] => vec!["negative".into(), "positive".into()],
            points => points.iter().map(i32::to_string).collect(),
        };
        writeln!(f, "| judge | truth | share | {} |", names.join(" | "))?;
        writeln!(f, "|---|---|---|{}", "---|".repeat(names.len()))?;
        for judge in &self.judges {
            for ((name, share), row) in names.iter().zip(&self.prior).zip(&judge.confusion) {
                write!(f, "| {} | {name} | {share:.3} |", judge.judge)?;
                row.iter().try_for_each(|probability| write!(f, " {probability:.3} |"))?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ballots::table;
    use crate::scale::Scale;

    fn binary() -> Scale {
        Scale::new(0, 1, 1).expect("two points")
    }

    #[test]
    fn one_iteration_is_that_by_hand() {
        // Shares of votes: 1, 2/3, 0.
        let rows: [&[Option<i32>]; 3] =
            [&[Some(1), Some(1), Some(1)], &[Some(1), Some(1), Some(0)], &[Some(0), Some(0), Some(0)]];
        let options = ResolveOptions::default().with_smoothing(0.0).with_iterations(1);
        let model = DawidSkene::binary(&table(binary(), &rows), &options).expect("a model");
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a}, {b}");
        near(model.prior[1], 5.0 / 9.0);
        // Positive mass 5/3, of which judge 2 votes positive on 1; negative mass 4/3, of which judge 0 is right on 1.
        near(model.judges[2].confusion[1][1], 0.6);
        near(model.judges[0].confusion[0][0], 0.75);
        near(model.judges[0].confusion[1][1], 1.0);
        // The second pair: 5/9 * 1 * 1 * 2/5 against 4/9 * 1/4 * 1/4 * 1.
        let posterior = model.posteriors(&table(binary(), &rows))[3];
        near(posterior, (2.0 / 9.0) / (2.0 / 9.0 + 1.0 / 36.0));
        let likelihood = (5.0 / 9.0 * 0.6) * (2.0 / 9.0 + 1.0 / 36.0) * (4.0 / 9.0 * 0.75 * 0.75);
        near(model.log_likelihood, f64::ln(likelihood));
        assert_eq!(model.warnings, ["Dawid-Skene has not converged in 1 iterations"]);
    }

    #[test]
    fn two_judges_do_not_identify_the_model_and_it_says_so() {
        let rows: [&[Option<i32>]; 3] = [&[Some(1), Some(1)], &[Some(1), Some(0)], &[Some(0), Some(0)]];
        let two = DawidSkene::binary(&table(binary(), &rows), &ResolveOptions::default()).expect("a model");
        assert!(
            two.warnings[0].starts_with("Dawid-Skene is not identifiable from 2 votes per pair"),
            "{:?}",
            two.warnings
        );
        // Three judges, but never together.
        let rows: [&[Option<i32>]; 2] = [&[Some(1), Some(1), None], &[Some(1), None, Some(0)]];
        let apart = DawidSkene::binary(&table(binary(), &rows), &ResolveOptions::default()).expect("a model");
        assert!(apart.warnings[0].contains("from 2 votes"));
        let nobody = table(binary(), &[&[None, None]]);
        let error = DawidSkene::binary(&nobody, &ResolveOptions::default()).expect_err("no vote");
        assert_eq!(error.to_string(), "no pair has a vote");
    }

    #[test]
    fn ordinal_confusion_is_shown_and_smoothed_towards_near_points() {
        // Nobody ever gives a 3 or 4: without votes, rows are the pseudo-votes alone.
        let rows: [&[Option<i32>]; 3] =
            [&[Some(1), Some(1), Some(1)], &[Some(2), Some(1), Some(2)], &[Some(5), Some(5), Some(5)]];
        let five = Scale::new(1, 5, 4).expect("five");
        let model = DawidSkene::ordinal(&table(five, &rows), &ResolveOptions::default()).expect("a model");
        let row = &model.judges[0].confusion[2];
        assert!(row[2] > row[1] && row[1] > row[0] && row[3] > row[4], "{row:?}");
        assert!(model.to_string().starts_with("| judge | truth | share | 1 | 2 | 3 | 4 | 5 |\n"));
        assert_eq!(model.classes, [1, 2, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn what_is_maximised_never_falls_and_shares_sum_to_one(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of(1..=4_i32), 4), 1..40),
            smoothing in prop::sample::select(vec![0.0, 0.1, 1.0, 5.0]),
            ordinal: bool,
        ) {
            let mut rows: Vec<Vec<Option<i32>>> = rows;
            rows.push(vec![Some(1), Some(3), Some(4), Some(2)]);
            let rows: Vec<&[Option<i32>]> = rows.iter().map(Vec::as_slice).collect();
            let ballots = table(Scale::new(1, 4, 3).expect("four"), &rows);
            let options = ResolveOptions::default().with_smoothing(smoothing).with_iterations(60);
            let model = if ordinal { DawidSkene::ordinal(&ballots, &options) } else { DawidSkene::binary(&ballots, &options) };
            let model = model.expect("a model");
            for pair in model.trace.windows(2) {
                prop_assert!(pair[1] >= pair[0] - 1e-9 * pair[0].abs().max(1.0), "{:?}", model.trace);
            }
            let sums = model.judges.iter().flat_map(|judge| &judge.confusion).chain([&model.prior]);
            for row in sums {
                prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            }
            for posterior in model.posteriors(&ballots).chunks(model.classes.len()) {
                prop_assert!((posterior.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            }
        }
    }
}
