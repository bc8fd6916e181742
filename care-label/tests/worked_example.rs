//! The paper's form of data, from votes to its figures: the example of `docs/labelling.md`.

#![allow(clippy::unwrap_used)]

use care_eval::agreement::IntervalOptions;
use care_label::agree::{Checked, ExpertScore, agree};
use care_label::ballots::{Ballot, Ballots};
use care_label::resolve::{ResolveOptions, Rule, resolve};
use care_label::{Scale, State};

/// Pairs by their three votes and the expert's score. 610 are unanimously positive, of which experts confirm 561, 92.0 %;
/// 4,390 are unanimously negative, of which they find 286 positive.
const PAIRS: [(usize, [i32; 3], i32); 6] = [
    (400, [5, 5, 5], 5),
    (161, [4, 5, 4], 4),
    (49, [4, 4, 5], 3),
    (286, [3, 3, 2], 4),
    (1104, [2, 3, 1], 2),
    (3000, [1, 1, 1], 1),
];

#[test]
fn votes_of_five_thousand_pairs_give_the_figures_of_the_paper() {
    let scale = Scale::new(1, 5, 4).unwrap();
    let mut builder = Ballots::builder(scale);
    let mut experts = Vec::new();
    let rows = PAIRS.iter().flat_map(|(number, votes, expert)| std::iter::repeat_n((votes, *expert), *number));
    for (row, (votes, expert)) in rows.enumerate() {
        let (query_id, doc_id) = (format!("q{}", row / 20), format!("d{row}"));
        for (judge, score) in ["deepseek-v3", "doubao-1.5-pro", "gpt-4o"].into_iter().zip(votes) {
            builder
                .add(&Ballot {
                    key: None,
                    judge: judge.into(),
                    model: judge.into(),
                    prompt: "relevance".into(),
                    query_id: query_id.clone(),
                    doc_id: doc_id.clone(),
                    sample: 0,
                    attempt: 1,
                    state: State::Scored,
                    score: Some(*score),
                })
                .unwrap();
        }
        experts.push(ExpertScore { expert: "expert".into(), query_id, doc_id, score: expert });
    }
    let ballots = builder.finish().unwrap();
    let labels = resolve(&ballots, Rule::Unanimous, &ResolveOptions::default()).unwrap().labels;
    let checked = Checked::new(scale, &labels, &experts).with_ballots(&ballots);
    let report = agree(&checked, &IntervalOptions::default().with_resamples(200)).unwrap();
    assert_eq!(report.confusion.counts, [[4104, 286], [49, 561]]);

    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/labelling.md");
    let page = std::fs::read_to_string(page).unwrap();
    let text = report.to_string();
    let summary = report.summary();
    assert!(summary.starts_with("5000 pairs: agreement 93.3 % [92.6, 94.0], Fleiss' kappa 0.731 ["), "{summary}");
    assert!(page.contains(&summary), "docs/labelling.md lacks: {summary}");
    let confusion = report.confusion.to_string();
    assert!(page.contains(&confusion), "docs/labelling.md lacks:\n{confusion}");
    let value =
        |name: &str| report.corrected.iter().find(|figure| figure.name == name).unwrap().estimate.unwrap().value;
    // All pairs are checked, so the corrected figures are exact.
    assert_eq!((value("precision"), value("recall")), (561.0 / 610.0, 561.0 / 847.0));
    assert!(text.contains("| precision | 0.920 [0.920, 0.920] |"), "{text}");
}
