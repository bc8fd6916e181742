//! The rules that count, average or weigh votes, and how any rule's decision becomes a label.

use std::collections::{BTreeMap, HashMap};

use care_core::Result;

use super::label::Outcome;
use super::rule::{Rule, accuracy_of, too_few};
use crate::ballots::Ballots;
use crate::scale::Scale;

/// What a rule says of a pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    pub(super) probability: Option<f64>,
    /// The point that the rule finds most probable, if it has points.
    point: Option<i32>,
}

impl Decision {
    pub(super) fn incomplete() -> Self {
        Self { outcome: Outcome::Incomplete, probability: None, point: None }
    }

    fn counted(outcome: Outcome) -> Self {
        Self { outcome, probability: None, point: None }
    }

    /// `certainty` is at least 0.5.
    fn probable(probability: f64, certainty: f64, point: Option<i32>) -> Self {
        // A tie, but for rounding.
        let outcome = if (probability - 0.5).abs() < 1e-12 || probability.max(1.0 - probability) < certainty {
            Outcome::Disputed
        } else {
            Outcome::of(probability > 0.5)
        };
        Self { outcome, probability: Some(probability), point }
    }

    /// 0 for a negative pair; from 1 on for a positive one, by the rule's point or the mean score.
    pub(super) fn grade(&self, scale: Scale, votes: impl Iterator<Item = f64>) -> Option<i32> {
        match self.outcome {
            Outcome::Negative => Some(0),
            Outcome::Positive => {
                let mean = || {
                    let (sum, number) = votes.fold((0.0, 0.0), |(sum, number), vote| (sum + vote, number + 1.0));
                    (sum / number).round() as i32
                };
                let point = self.point.unwrap_or_else(mean);
                Some(point.clamp(scale.threshold, scale.max) - scale.threshold + 1)
            }
            Outcome::Disputed | Outcome::Incomplete => None,
        }
    }
}

pub(super) fn by_counting(ballots: &Ballots, rule: Rule, row: usize) -> Decision {
    let votes = ballots.scores(row).flatten();
    let number = votes.clone().count();
    let positive = votes.clone().filter(|score| ballots.is_positive(*score)).count();
    Decision::counted(match rule {
        Rule::Mean => Outcome::of(ballots.is_positive(votes.sum::<f64>() / number as f64)),
        Rule::Median => {
            let mut scores: Vec<f64> = votes.collect();
            scores.sort_by(f64::total_cmp);
            Outcome::of(ballots.is_positive((scores[(number - 1) / 2] + scores[number / 2]) / 2.0))
        }
        Rule::Majority if 2 * positive != number => Outcome::of(2 * positive > number),
        Rule::Unanimous if positive == number || positive == 0 => Outcome::of(positive > 0),
        _ => Outcome::Disputed,
    })
}

pub(super) fn weights(ballots: &Ballots, accuracies: &BTreeMap<String, f64>) -> Result<Vec<f64>> {
    let log_odds = |accuracy: f64| (accuracy / (1.0 - accuracy)).ln();
    ballots.judges().iter().map(|judging| accuracy_of(accuracies, &judging.judge).map(log_odds)).collect()
}

pub(super) fn by_weights(ballots: &Ballots, weights: &[f64], certainty: f64, row: usize) -> Decision {
    let vote = |score: f64| if ballots.is_positive(score) { 1.0 } else { -1.0 };
    let votes = ballots.scores(row).zip(weights);
    let odds: f64 = votes.filter_map(|(score, weight)| Some(vote(score?) * weight)).sum();
    Decision::probable(1.0 / (1.0 + (-odds).exp()), certainty, None)
}

/// `classes` are points, or, if there are two, 0 for negative and 1 for positive.
pub(super) fn by_posterior(ballots: &Ballots, classes: &[i32], posterior: &[f64], certainty: f64) -> Decision {
    let scale = ballots.scale();
    let is_positive = |class: i32| if classes == [0, 1] { class == 1 } else { scale.is_positive(class) };
    let side = |positive| classes.iter().zip(posterior).filter(move |(class, _)| is_positive(**class) == positive);
    let probability = side(true).map(|(_, share)| share).sum();
    let best = side(probability > 0.5).max_by(|a, b| a.1.total_cmp(b.1));
    let point = best.filter(|_| classes != [0, 1]).map(|(class, _)| *class);
    Decision::probable(probability, certainty, point)
}

/// The probability of each judge to be right, by pairs whose truth is known: `(right + 1) / (pairs + 2)`.
///
/// `positive` is whether a pair, by the ids of query and document, is positive, e.g. as experts found. If the pairs were not
/// drawn evenly, e.g. more where judges disagreed, neither are these.
///
/// # Errors
/// If a judge has no vote on these pairs.
pub fn accuracies(ballots: &Ballots, positive: &HashMap<(&str, &str), bool>) -> Result<BTreeMap<String, f64>> {
    let mut right = vec![(0_u64, 0_u64); ballots.judges().len()];
    for row in 0..ballots.len() {
        let Some(truth) = positive.get(&ballots.pair(row)) else { continue };
        for (score, (right, all)) in ballots.scores(row).zip(&mut right) {
            let Some(score) = score else { continue };
            *right += u64::from(ballots.is_positive(score) == *truth);
            *all += 1;
        }
    }
    let judges = ballots.judges().iter().zip(right);
    let accuracy = |(right, all): (u64, u64)| (right as f64 + 1.0) / (all as f64 + 2.0);
    let of_judge = |(judging, counts): (&crate::ballots::Judging, (u64, u64))| match counts.1 {
        0 => Err(too_few(&format!("judge `{}` has no vote on a pair that experts have labelled", judging.judge))),
        _ => Ok((judging.judge.clone(), accuracy(counts))),
    };
    judges.map(of_judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ballots::table;

    #[test]
    fn accuracies_count_votes_on_known_pairs() {
        let scale = Scale::new(0, 1, 1).expect("two points");
        let rows: [&[Option<i32>]; 3] = [&[Some(1), Some(0)], &[Some(0), None], &[Some(1), Some(1)]];
        let ballots = table(scale, &rows);
        let truth = HashMap::from([(("q0", "d0"), true), (("q1", "d1"), true)]);
        let found = accuracies(&ballots, &truth).expect("accuracies");
        assert_eq!(found, BTreeMap::from([("j0".to_owned(), 0.5), ("j1".to_owned(), 1.0 / 3.0)]));
        let none = HashMap::from([(("q1", "d1"), true)]);
        assert_eq!(
            accuracies(&ballots, &none).expect_err("no vote").to_string(),
            "judge `j1` has no vote on a pair that experts have labelled"
        );
    }
}
