//! The evaluator's result and its errors.
#![allow(clippy::unwrap_used)]

use care_eval::{ErrorKind, Evaluator, Measure, Missing, Qrels, Run, Ties};

fn measure(name: &str) -> Measure {
    name.parse().unwrap()
}

#[test]
fn the_report_keeps_the_order_asked_for_and_states_its_conventions() {
    let qrels = Qrels::from_judgements([("q1", "d1", 1), ("q2", "d1", 1)]).unwrap();
    let run = Run::from_scores([("q1", "d1", 1.0), ("other", "d1", 1.0)]).unwrap();
    let evaluator = Evaluator::new(["recall@5", "ndcg@10", "recall@5"].map(measure)).ties(Ties::Pessimistic);
    let evaluation = evaluator.missing(Missing::Zero).evaluate(&qrels, &run).unwrap();

    assert_eq!(
        serde_json::to_string(&evaluation).unwrap(),
        concat!(
            r#"{"measures":{"recall@5":0.5,"ndcg@10":0.5},"queries":2,"missing":"zero","ties":"pessimistic","#,
            r#""missing_queries":1,"surplus_queries":1,"longest_ranking":1,"#,
            r#""per_query":{"q1":{"recall@5":1.0,"ndcg@10":1.0},"q2":{"recall@5":0.0,"ndcg@10":0.0}}}"#
        )
    );
    let short = serde_json::to_value(evaluation.without_per_query()).unwrap();
    assert!(short.get("per_query").is_none());
}

#[test]
fn cut_offs_below_the_end_of_the_longest_ranking_are_named() {
    let qrels = Qrels::from_judgements([("q1", "d1", 1), ("q2", "d1", 1)]).unwrap();
    // The longest ranking of all is of a query that is not judged.
    let scores = [
        ("q1", "d1"),
        ("q1", "d2"),
        ("q2", "d1"),
        ("q2", "d2"),
        ("q2", "d3"),
        ("other", "d1"),
        ("other", "d2"),
        ("other", "d3"),
        ("other", "d4"),
    ];
    let run = Run::from_scores(scores.into_iter().map(|(query, document)| (query, document, 1.0))).unwrap();
    let warnings = |names: &[&str]| {
        let evaluation = Evaluator::new(names.iter().copied().map(measure)).evaluate(&qrels, &run).unwrap();
        assert_eq!(evaluation.longest_ranking, 3);
        evaluation.warnings()
    };
    let all = ["recall@1000", "ndcg@4", "map", "ndcg@3", "rprec"];
    assert_eq!(
        warnings(&all),
        [
            "cut-offs below the end of the longest ranking, 3 documents: recall@1000, ndcg@4; unless the rankings hold the \
          whole corpus, these are values at 3"
        ]
    );
    assert_eq!(warnings(&["map", "precision@3", "mrr"]), Vec::<String>::new());
}

#[test]
fn nothing_in_common_is_an_error_when_missing_queries_are_dropped() {
    let qrels = Qrels::from_judgements([("7", "d1", 1), ("8", "d1", 1)]).unwrap();
    let run = Run::from_scores([("q7", "d1", 1.0)]).unwrap();
    let evaluator = Evaluator::new([measure("map")]);

    let error = evaluator.evaluate(&qrels, &run).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoQueries);
    assert_eq!(
        error.to_string(),
        "no query to evaluate: queries of the qrels: 2 (first: \"7\"); of the run: 1 (first: \"q7\")"
    );

    let evaluator = evaluator.missing(Missing::Zero);
    assert_eq!(evaluator.evaluate(&qrels, &run).unwrap().measures.get(measure("map")), Some(0.0));
    let error = evaluator.evaluate(&Qrels::new(), &Run::new()).unwrap_err();
    assert_eq!(error.to_string(), "no query to evaluate: queries of the qrels: none; of the run: none");
}

#[test]
fn a_run_refuses_what_it_cannot_rank() {
    let error = Run::from_scores([("q", "d", f32::NAN)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Score);
    assert_eq!(error.to_string(), "the score of document \"d\" for query \"q\" is NaN");

    let error = Run::from_scores([("q", "d", 1.0), ("q", "d", 2.0)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Duplicate);
    assert_eq!(error.to_string(), "document \"d\" is retrieved twice for query \"q\"");

    let error = Qrels::from_judgements([("q", "d", 1), ("q", "d", 1)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Duplicate);
    assert_eq!(error.to_string(), "document \"d\" is judged twice for query \"q\"");
}

#[test]
fn scores_that_are_equal_as_f32_are_a_tie() {
    let qrels = Qrels::from_judgements([("q", "a", 1)]).unwrap();
    let run =
        Run::from_scores([("q", "a", 0.123_456_789_1_f64 as f32), ("q", "b", 0.123_456_789_0_f64 as f32)]).unwrap();
    let evaluation = Evaluator::new([measure("mrr")]).evaluate(&qrels, &run).unwrap();
    assert_eq!(evaluation.measures.get(measure("mrr")), Some(0.5));
}
