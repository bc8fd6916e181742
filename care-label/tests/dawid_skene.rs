//! Dawid-Skene equals crowd-kit's on the fixture of `tests/data/make_dawid_skene.py`.

#![allow(clippy::unwrap_used)]

use care_label::ballots::{Ballot, Ballots};
use care_label::resolve::{DawidSkene, ResolveOptions};
use care_label::{Scale, State};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    points: i32,
    iterations: usize,
    rows: Vec<Vec<Option<i32>>>,
    prior: Vec<f64>,
    posterior: Vec<Vec<f64>>,
    confusion: Vec<Vec<Vec<f64>>>,
}

#[test]
fn estimates_without_smoothing_equal_those_of_crowd_kit() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/dawid_skene.json")).unwrap();
    assert_eq!(cases.len(), 3);
    for (number, case) in cases.iter().enumerate() {
        let ballots = ballots(case);
        let model = |iterations| {
            // So small a tolerance stops at no iteration.
            let options = ResolveOptions::default().with_smoothing(0.0).with_tolerance(f64::MIN_POSITIVE);
            let options = options.with_iterations(iterations);
            let binary = case.points == 2;
            if binary { DawidSkene::binary(&ballots, &options) } else { DawidSkene::ordinal(&ballots, &options) }
        };
        let (posterior, parameters) = (model(case.iterations).unwrap(), model(case.iterations + 1).unwrap());
        let same = |what: &str, found: &[f64], expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "case {number}, {what}: {found}, crowd-kit {expected}");
            }
        };
        same("prior", &parameters.prior, &case.prior);
        same("posterior", &posterior.posteriors(&ballots), &case.posterior.concat());
        for (judge, expected) in parameters.judges.iter().zip(&case.confusion) {
            same("confusion", &judge.confusion.concat(), &expected.concat());
        }
    }
}

fn ballots(case: &Case) -> Ballots {
    let mut builder = Ballots::builder(Scale::new(0, case.points - 1, 1).unwrap());
    for (row, votes) in case.rows.iter().enumerate() {
        for (judge, score) in votes.iter().enumerate() {
            let ballot = Ballot {
                key: None,
                judge: format!("judge {judge}"),
                model: "m".into(),
                prompt: "p".into(),
                query_id: row.to_string(),
                doc_id: row.to_string(),
                sample: 0,
                attempt: 1,
                state: if score.is_some() { State::Scored } else { State::Failed },
                score: *score,
            };
            builder.add(&ballot).unwrap();
        }
    }
    builder.finish().unwrap()
}
