//! The differences of two models on the same tasks, and their significance.

use care_core::{Error, ErrorKind, Result};
use care_eval::stats::{Interval, bootstrap_interval, paired_randomisation_test, percentile_interval, spearman};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::report::Single;
use crate::results::{Results, TaskResult};

/// Level of the confidence intervals.
const LEVEL: f64 = 0.95;

/// The difference of two models on a task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// The task's name.
    pub task: String,
    /// The measure of the main score.
    pub measure: String,
    /// The first model's main score.
    pub first: f64,
    /// The second model's main score.
    pub second: f64,
    /// Number of queries, or of pairs for STS.
    pub count: usize,
    /// 95 % confidence interval of second minus first, from bootstrap samples of the queries or pairs; `None` if
    /// undefined.
    pub interval: Option<Interval>,
    /// Two-sided p-value of a paired randomisation test; `None` for STS.
    pub p_value: Option<f64>,
    /// Second minus first for each query, ordered by query id; empty for STS.
    pub queries: Vec<(String, f64)>,
}

impl Comparison {
    /// Second minus first.
    pub fn difference(&self) -> f64 {
        self.second - self.first
    }

    /// Number of queries on which the second model is better, the same, and worse.
    pub fn counts(&self) -> [usize; 3] {
        let count = |test: fn(f64) -> bool| self.queries.iter().filter(|(_, difference)| test(*difference)).count();
        [count(|d| d > 0.0), count(|d| d == 0.0), count(|d| d < 0.0)]
    }
}

/// Compares two models on every task that both have results for.
///
/// `samples` is the number of samples of the bootstrap and of the randomisation test, `seed` the seed of both.
///
/// An item is an error ([`ErrorKind::Format`]) if the results of a task cannot be compared: if they differ in data,
/// measures or rules, or if a file of another program lacks scores per query. If the models have no task in common, the
/// only item is an error.
pub fn compare(first: &Results, second: &Results, samples: usize, seed: u64) -> Vec<Result<Comparison>> {
    let both = first.tasks.iter().filter_map(|left| Some((left, second.task(&left.task)?)));
    let compared = both.map(|(left, right)| {
        compare_task(left, right, samples, seed).map_err(|problem| {
            let (task, first, second) = (&left.task, &first.name, &second.name);
            Error::new(ErrorKind::Format, format!("{first} and {second} cannot be compared on {task}: {problem}"))
        })
    });
    let comparisons: Vec<_> = compared.collect();
    if comparisons.is_empty() {
        let message = format!("{} and {} have no task in common", first.name, second.name);
        return vec![Err(Error::new(ErrorKind::Format, message))];
    }
    comparisons
}

fn compare_task(
    left: &TaskResult,
    right: &TaskResult,
    samples: usize,
    seed: u64,
) -> std::result::Result<Comparison, String> {
    if left.data != right.data {
        return Err(format!("the data differ: {} and {}", left.data, right.data));
    }
    let (Some(of_left), Some(of_right)) = (&left.single, &right.single) else {
        return Err("a result file has no scores per query".to_owned());
    };
    if of_left.main() != of_right.main() {
        return Err(format!("the main scores differ: {} and {}", of_left.main(), of_right.main()));
    }
    for rule in ["ties", "missing", "sts_mode", "ignore_identical_ids"] {
        let (of_left, of_right) = (&left.about[rule], &right.about[rule]);
        if of_left != of_right {
            return Err(format!("the rules differ: `{rule}` is {of_left} and {of_right}"));
        }
    }
    let mut comparison = Comparison {
        task: left.task.clone(),
        measure: of_left.main().to_owned(),
        first: left.main_score,
        second: right.main_score,
        count: of_left.count(),
        interval: None,
        p_value: None,
        queries: Vec::new(),
    };
    match (of_left, of_right) {
        (Single::Queries { queries: first, .. }, Single::Queries { queries: second, .. }) => {
            if !first.keys().eq(second.keys()) {
                return Err("the queries differ".to_owned());
            }
            let values = |queries: &std::collections::BTreeMap<String, f64>| queries.values().copied().collect();
            let (first_values, second_values): (Vec<f64>, Vec<f64>) = (values(first), values(second));
            let differences: Vec<f64> = first_values.iter().zip(&second_values).map(|(a, b)| b - a).collect();
            comparison.interval = bootstrap_interval(&differences, LEVEL, samples, seed);
            // The test is undefined for a single query.
            let test = paired_randomisation_test(&first_values, &second_values, samples, seed);
            comparison.p_value = test.ok().map(|test| test.p_value);
            comparison.queries = first.keys().cloned().zip(differences).collect();
        }
        (Single::Pairs { pairs: first, main }, Single::Pairs { pairs: second, .. }) => {
            if first.len() != second.len() || first.iter().zip(second).any(|(a, b)| a.0 != b.0) {
                return Err("the pairs differ".to_owned());
            }
            if !main.ends_with("spearman") {
                return Err(format!("unknown main score of pairs: {main}"));
            }
            comparison.interval = pairs_interval(first, second, samples, seed);
        }
        _ => return Err("one result is of a ranking, the other of pairs".to_owned()),
    }
    Ok(comparison)
}

/// The interval of the difference of two Spearman correlations, without samples in which either is undefined.
fn pairs_interval(first: &[(f64, f64)], second: &[(f64, f64)], samples: usize, seed: u64) -> Option<Interval> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let differences = (0..samples).filter_map(|_| {
        let drawn: Vec<usize> = (0..first.len()).map(|_| rng.random_range(0..first.len())).collect();
        let column = |pairs: &[(f64, f64)], value: fn(&(f64, f64)) -> f64| -> Vec<f64> {
            drawn.iter().map(|&index| value(&pairs[index])).collect()
        };
        let given = column(first, |pair| pair.0);
        let of = |pairs| spearman(&column(pairs, |pair| pair.1), &given).ok();
        Some(of(second)? - of(first)?)
    });
    percentile_interval(differences.collect(), LEVEL)
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use serde_json::Value;

    use super::*;

    fn result(data: &str, single: Option<Single>, main_score: f64) -> TaskResult {
        TaskResult {
            task: "t".to_owned(),
            data: data.to_owned(),
            main_score,
            scores: Default::default(),
            single,
            about: Value::Null,
        }
    }

    fn queries(values: &[f64]) -> Option<Single> {
        let queries = values.iter().enumerate().map(|(n, value)| (format!("q{n:02}"), *value)).collect();
        Some(Single::Queries { main: "ndcg@10".to_owned(), queries })
    }

    /// The only item of a list.
    fn only(mut items: Vec<Result<Comparison>>) -> Result<Comparison> {
        assert_eq!(items.len(), 1);
        items.remove(0)
    }

    fn model(name: &str, task: TaskResult) -> Results {
        Results { name: name.to_owned(), tasks: vec![task] }
    }

    #[test]
    fn rankings_are_compared_query_by_query() {
        let first: Vec<f64> = (0..40).map(|n| f64::from(n % 5) / 10.0).collect();
        let second: Vec<f64> = first.iter().zip(0..).map(|(value, n)| value + [0.1, 0.1, 0.0, -0.05][n % 4]).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (a, b) = (
            model("a", result("x", queries(&first), mean(&first))),
            model("b", result("x", queries(&second), mean(&second))),
        );
        let comparison = &only(compare(&a, &b, 2000, 1)).expect("comparable");
        assert_abs_diff_eq!(comparison.difference(), 0.0375, epsilon = 1e-12);
        assert_eq!((comparison.count, comparison.counts()), (40, [20, 10, 10]));
        let interval = comparison.interval.expect("an interval");
        assert!(0.0 < interval.low && interval.low < 0.0375 && 0.0375 < interval.high, "{interval:?}");
        assert!(comparison.p_value.expect("a test") < 0.01);
        let same = &only(compare(&a, &a, 2000, 1)).expect("comparable");
        assert_eq!((same.difference(), same.p_value), (0.0, Some(1.0)));
    }

    #[test]
    fn pairs_are_compared_by_their_correlations() {
        let given: Vec<f64> = (0..60).map(f64::from).collect();
        let pairs = |noise: f64| -> Vec<(f64, f64)> {
            given.iter().map(|&score| (score, score + noise * f64::from((score as i32 * 37) % 11 - 5))).collect()
        };
        let of = |noise: f64| {
            let pairs = pairs(noise);
            let (given, cosines): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let score = spearman(&cosines, &given).expect("defined");
            result("x", Some(Single::Pairs { main: "cosine_spearman".to_owned(), pairs }), score)
        };
        let comparison = &only(compare(&model("a", of(8.0)), &model("b", of(1.0)), 500, 1)).expect("comparable");
        let interval = comparison.interval.expect("an interval");
        assert!(comparison.difference() > 0.0 && interval.low > 0.0, "{comparison:?}");
        assert!(interval.low < comparison.difference() && comparison.difference() < interval.high);
        assert_eq!((comparison.count, comparison.p_value, comparison.counts()), (60, None, [0, 0, 0]));
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let other = |main: &str| Some(Single::Queries { main: main.to_owned(), queries: Default::default() });
        let pairs = Some(Single::Pairs { main: "ndcg@10".to_owned(), pairs: Vec::new() });
        let cases = [
            (result("y", queries(&[1.0]), 1.0), "the data differ: x and y"),
            (result("x", None, 1.0), "a result file has no scores per query"),
            (result("x", other("map@10"), 1.0), "the main scores differ: ndcg@10 and map@10"),
            (result("x", queries(&[1.0, 0.5]), 1.0), "the queries differ"),
            (result("x", pairs, 1.0), "one result is of a ranking, the other of pairs"),
            (
                TaskResult { about: serde_json::json!({"ties": "expected"}), ..result("x", queries(&[1.0]), 1.0) },
                "the rules differ: `ties` is null and \"expected\"",
            ),
        ];
        let first = model("a", result("x", queries(&[1.0]), 1.0));
        for (second, problem) in cases {
            let error = only(compare(&first, &model("b", second), 10, 1)).expect_err(problem);
            assert_eq!(error.to_string(), format!("a and b cannot be compared on t: {problem}"));
        }
        let elsewhere = TaskResult { task: "u".to_owned(), ..result("x", None, 1.0) };
        let error = only(compare(&first, &model("b", elsewhere), 10, 1)).expect_err("nothing in common");
        assert_eq!(error.to_string(), "a and b have no task in common");
    }
}
