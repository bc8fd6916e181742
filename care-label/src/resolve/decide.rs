//! Labels all pairs by a rule.

use std::collections::BTreeMap;

use care_core::Result;

use super::dawid_skene::DawidSkene;
use super::label::Label;
use super::rule::{ResolveOptions, Rule, RuleCounts};
use super::rules;
use crate::ballots::Ballots;

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
///         key: None, judge: judge.into(), model: judge.into(), prompt: "hash".into(),
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

#[cfg(test)]
mod tests {
    use super::super::label::Outcome;
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
