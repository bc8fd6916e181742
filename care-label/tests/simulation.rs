//! On a generated set, the estimates of the pipeline cover the truth, and rules rank as theory says.

#![allow(clippy::unwrap_used)]

use care_eval::Qrels;

#[path = "../examples/simulation.rs"]
#[allow(unreachable_pub, reason = "a module here, a program there")]
mod simulation;

use simulation::{Coverage, Settings, simulate};

#[test]
fn intervals_cover_the_truth_with_independent_and_with_shared_errors() {
    let judgements = (0..120).flat_map(|query| {
        (0..4 + query % 5).map(move |n| (format!("q{query}"), format!("d{}", (query * 7 + n * 31) % 400), 1))
    });
    let mut qrels = Qrels::new();
    for (query, document, grade) in judgements {
        qrels.insert(&query, &document, grade).unwrap();
    }
    for shared in [0.0, 0.4] {
        let settings = Settings { depth: 40, known: 0.5, shared, checked: 1500, repetitions: 40 };
        let (pairs, coverage, rules) = simulate(&qrels, &settings).unwrap();
        assert_eq!((pairs, coverage.len(), rules.len()), (4800, 5, 8));
        for (name, Coverage { truth, estimate, covered }) in coverage {
            // 40 intervals of 95 %: below 0.85 with a probability of 0.3 %.
            assert!(covered >= 0.85, "{name}, shared {shared}: {covered}");
            assert!((truth - estimate).abs() < 0.02 * truth.max(1.0), "{name}, shared {shared}: {truth}, {estimate}");
        }
        let rule = |name: &str| rules.iter().find(|rule| rule.rule == name).unwrap();
        let (unanimous, majority) = (rule("unanimous"), rule("majority"));
        assert!(unanimous.precision > majority.precision && unanimous.recall < majority.recall);
        assert!(unanimous.disputed > 0.05 && majority.disputed == 0.0);
        // With independent errors, knowing who errs how often is worth something.
        if shared == 0.0 {
            assert!(rule("dawid-skene").f1() > majority.f1());
            assert!(rule("weighted, by experts").f1() >= majority.f1());
        }
    }
}
